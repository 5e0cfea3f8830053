"""The options that `submit`, `sweep` and `estimate` share, and the overrides that they result in."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from lvjobs.api.settings import Overrides
from lvjobs.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_RESOURCE_OPTIONS = (
    ("--partition", "partition", "Slurm partition, or several: a,b."),
    ("--account", "account", "Slurm account."),
    ("--qos", "qos", "Slurm quality of service, or several in order of preference: a,b."),
    (
        "--time-limit",
        "time_limit",
        "Longest run time of one job: 12:00:00, 36h, 90m, or auto (by measured step times).",
    ),
    ("--memory-mb", "memory_mb", "Memory of one job in MiB."),
    ("--pack", "pack", "Runs that share one job, and wait in the queue once (default: each has its own)."),
    ("--side-by-side", "side_by_side", "Of a pack's runs, how many train at once (default: one after another)."),
)
_RUN_OPTIONS = (
    ("--steps", "steps", "Steps of the run."),
    ("--seed", "seed", "Seed of everything that is drawn."),
    ("--checkpoint-every", "checkpoint_every", "Steps between checkpoints."),
    ("--validate-every", "validate_every", "Steps between validations (default: with the checkpoints)."),
)
_CARRIED_OPTIONS = (
    ("--checkpoint-every", "checkpoint_every", "Steps between checkpoints."),
    ("--keep-last", "keep_last", "Checkpoints that stay."),
)
_TRAIN_OPTIONS = (
    ("--model", "model", "tiny, a directory, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct."),
    ("--data", "data", "HDF5 file with /time and /trajectories."),
    ("--steps", "steps", "Training steps."),
    ("--context-length", "context_length", "Training window in tokens."),
    ("--batch-size", "batch_size", "Windows a step."),
    ("--lora-rank", "lora_rank", "LoRA rank."),
    ("--lora-alpha", "lora_alpha", "LoRA alpha (default: the rank)."),
    ("--learning-rate", "learning_rate", "Peak learning rate."),
    ("--seed", "seed", "Seed of everything that is drawn."),
    ("--checkpoint-every", "checkpoint_every", "Steps between checkpoints."),
    ("--validate-every", "validate_every", "Steps between validations (default: with the checkpoints)."),
)


def resource_options(function: F) -> F:
    """Add the options for a job's resources to a command."""
    return _options(function, _RESOURCE_OPTIONS)


def train_options(function: F) -> F:
    """Add the options for the bundled training to a command. Numbers may be written as 1e-5 or 1e3."""
    return _options(_set_option(function), _TRAIN_OPTIONS)


def run_options(function: F) -> F:
    """Add the options for a run of the user's own task to a command. The task's own keys are given with --set."""
    return _options(_set_option(function), _RUN_OPTIONS)


def _set_option(function: F) -> F:
    return click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help='Any other key of [train] in study.toml, or resources.KEY (a list: ["a", "b"]); may be given again.',
    )(function)


def carried_options(function: F) -> F:
    """Add the options for settings that may change in an existing run, beside its resource options and profile."""
    function = click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="resources.KEY=VALUE",
        help='Any other key of [resources] in study.toml (a list: ["a", "b"]); may be given again.',
    )(function)
    return _options(function, _CARRIED_OPTIONS)


def fit_options(function: F) -> F:
    """Add --fit and --yes to a command."""
    function = click.option("--yes", is_flag=True, help="With --fit: submit what fits without asking.")(function)
    return click.option(
        "--fit",
        is_flag=True,
        help="Where the budget refuses: propose rarer validation, then fewer steps, and submit that if you agree.",
    )(function)


def profile_option(function: F) -> F:
    """Add --profile to a command."""
    return click.option(
        "--profile", help="How the cluster is used: local, or a file of slurm_templates (default: study.toml's)."
    )(function)


def _options(function: F, table: Iterable[tuple[str, str, str]]) -> F:
    for flag, name, text in reversed(list(table)):
        function = click.option(flag, name, help=text)(function)
    return function


def overrides(options: dict[str, Any], pairs: Iterable[str], profile: str | None) -> Overrides:
    """Return the typed overrides of study.toml: the options that are not None, then the pairs of --set.

    Raises:
        UsageError: A --set is not KEY=VALUE.
    """
    typed = {name: value for name, value in options.items() if value is not None}
    resources = {name: typed.pop(name) for _, name, _ in _RESOURCE_OPTIONS if name in typed}
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
