"""The options that `submit`, `sweep` and `estimate` share, and the overrides that they result in."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import click

from lvjobs.api.settings import Overrides
from lvjobs.cli.common import together
from lvjobs.cli.help import RESOURCES, TRAINING, SectionOption
from lvjobs.errors import UsageError
from lvjobs.study.tables import Resources, check_time_unit

_training = partial(click.option, cls=SectionOption, section=TRAINING)
_resource = partial(click.option, cls=SectionOption, section=RESOURCES)

_CHECKPOINT_EVERY = _training("--checkpoint-every", help="Steps between checkpoints.")
_VALIDATE_EVERY = _training("--validate-every", help="Steps between validations (default: with the checkpoints).")
_SEED = _training("--seed", help="Random seed.")
_SET = _training(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help='Any other key of [train] in study.toml, or resources.KEY (a list: ["a", "b"]). Repeatable.',
)

resource_options = together(
    _resource("--gpus", help="GPUs per node."),
    _resource("--cpus", help="CPU cores per node."),
    _resource("--nodes", help="Nodes per job, which train one run together."),
    _resource("--partition", help="Slurm partition, or several: ampere,icelake."),
    _resource("--account", help="Slurm account."),
    _resource("--qos", help="Slurm QOS, or several in order of preference: normal,low."),
    _resource("--time-limit", help="Time limit of one job: 12:00:00, 36h, 90m, or auto (from measured step times)."),
    _resource("--memory-mb", metavar="SIZE", help="Memory per node: 16G, or a number of MiB."),
    _resource("--pack", help="Runs per job, one after another (default: 1)."),
    _resource("--side-by-side", help="Runs of a pack that train at the same time (default: 1)."),
)
train_options = together(
    _training("--model", help="tiny, a directory, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct."),
    _training("--data", help="HDF5 file with /time and /trajectories."),
    _training("--steps", help="Training steps."),
    _training("--context-length", help="Training window, in tokens."),
    _training("--batch-size", help="Windows per batch."),
    _training("--lora-rank", help="LoRA rank."),
    _training("--lora-alpha", help="LoRA alpha (default: the rank)."),
    _training("--learning-rate", help="Peak learning rate."),
    _SEED,
    _CHECKPOINT_EVERY,
    _VALIDATE_EVERY,
    _SET,
)
"""The options for the bundled training. Numbers may be written as 1e-5 or 1e3."""
subject_settings = together(
    _training("--model", help="tiny, a directory, or a hub id: the base model of --zero-shot or --adapter."),
    _training("--data", help="HDF5 file with /time and /trajectories, for --zero-shot or --adapter."),
    _SEED,
    _SET,
)
"""The options for the settings that an evaluation without a run has."""
run_options = together(_training("--steps", help="Steps of the run."), _SEED, _CHECKPOINT_EVERY, _VALIDATE_EVERY, _SET)
"""The options for a run of the user's own task, whose own keys are given with --set."""
carried_options = together(
    _CHECKPOINT_EVERY,
    _training("--keep-last", help="Number of checkpoints to keep."),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="resources.KEY=VALUE",
        help='Any other key of [resources] in study.toml (a list: ["a", "b"]). Repeatable.',
    ),
)
"""The options for settings that may change in an existing run, beside its resource options and profile."""
fit_options = together(
    click.option(
        "--fit",
        is_flag=True,
        help="If the budget is exceeded: propose fewer validations, then fewer steps, and submit that if you agree.",
    ),
    click.option("--yes", is_flag=True, help="With --fit: submit the proposal without asking."),
)
profile_option = _resource("--profile", help="Profile: local, lab, generic, a site, or a file (default: study.toml's).")


def overrides(options: dict[str, Any], pairs: Iterable[str], profile: str | None) -> Overrides:
    """Return the typed overrides of study.toml: the options that are not None, then the pairs of --set.

    Raises:
        UsageError: A --set is not KEY=VALUE.
    """
    typed = {name: value for name, value in options.items() if value is not None}
    resources = {name: typed.pop(name) for name in Resources.model_fields if name in typed}
    check_time_unit(resources.get("time_limit"), "--time-limit")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: write KEY=VALUE, such as --set lora_dropout=0.1")
        table, dot, inner = key.partition(".")
        if dot and table == "resources":
            resources[inner] = value
            check_time_unit(value if inner == "time_limit" else None, "--set resources.time_limit")
        else:
            typed[key.removeprefix("train.")] = value
    return Overrides(typed, resources, profile)
