"""The options that `submit`, `sweep` and `estimate` share, and the overrides that they result in."""

from collections.abc import Iterable
from typing import Any

import click

from lvjobs.api.settings import Overrides
from lvjobs.cli.common import together
from lvjobs.errors import UsageError
from lvjobs.study.tables import Resources

_CHECKPOINT_EVERY = click.option("--checkpoint-every", help="Steps between checkpoints.")
_VALIDATE_EVERY = click.option("--validate-every", help="Steps between validations (default: with the checkpoints).")
_SEED = click.option("--seed", help="Seed of everything that is drawn.")
_SET = click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help='Any other key of [train] in study.toml, or resources.KEY (a list: ["a", "b"]); may be given again.',
)

resource_options = together(
    click.option("--partition", help="Slurm partition, or several: a,b."),
    click.option("--account", help="Slurm account."),
    click.option("--qos", help="Slurm quality of service, or several in order of preference: a,b."),
    click.option(
        "--time-limit", help="Longest run time of one job: 12:00:00, 36h, 90m, or auto (by measured step times)."
    ),
    click.option("--memory-mb", help="Memory of one job in MiB."),
    click.option("--pack", help="Runs that share one job, and wait in the queue once (default: each has its own)."),
    click.option("--side-by-side", help="Of a pack's runs, how many train at once (default: one after another)."),
)
train_options = together(
    click.option("--model", help="tiny, a directory, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct."),
    click.option("--data", help="HDF5 file with /time and /trajectories."),
    click.option("--steps", help="Training steps."),
    click.option("--context-length", help="Training window in tokens."),
    click.option("--batch-size", help="Windows a step."),
    click.option("--lora-rank", help="LoRA rank."),
    click.option("--lora-alpha", help="LoRA alpha (default: the rank)."),
    click.option("--learning-rate", help="Peak learning rate."),
    _SEED,
    _CHECKPOINT_EVERY,
    _VALIDATE_EVERY,
    _SET,
)
"""The options for the bundled training. Numbers may be written as 1e-5 or 1e3."""
run_options = together(
    click.option("--steps", help="Steps of the run."), _SEED, _CHECKPOINT_EVERY, _VALIDATE_EVERY, _SET
)
"""The options for a run of the user's own task, whose own keys are given with --set."""
carried_options = together(
    _CHECKPOINT_EVERY,
    click.option("--keep-last", help="Checkpoints that stay."),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="resources.KEY=VALUE",
        help='Any other key of [resources] in study.toml (a list: ["a", "b"]); may be given again.',
    ),
)
"""The options for settings that may change in an existing run, beside its resource options and profile."""
fit_options = together(
    click.option(
        "--fit",
        is_flag=True,
        help="Where the budget refuses: propose rarer validation, then fewer steps, and submit that if you agree.",
    ),
    click.option("--yes", is_flag=True, help="With --fit: submit what fits without asking."),
)
profile_option = click.option(
    "--profile", help="How the cluster is used: local, or a file of slurm_templates (default: study.toml's)."
)


def overrides(options: dict[str, Any], pairs: Iterable[str], profile: str | None) -> Overrides:
    """Return the typed overrides of study.toml: the options that are not None, then the pairs of --set.

    Raises:
        UsageError: A --set is not KEY=VALUE.
    """
    typed = {name: value for name, value in options.items() if value is not None}
    resources = {name: typed.pop(name) for name in Resources.model_fields if name in typed}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: write KEY=VALUE, such as --set lora_dropout=0.1")
        table, dot, inner = key.partition(".")
        if dot and table == "resources":
            resources[inner] = value
        else:
            typed[key.removeprefix("train.")] = value
    return Overrides(typed, resources, profile)
