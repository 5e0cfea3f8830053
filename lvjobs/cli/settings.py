"""The options that `submit`, `sweep` and `estimate` share, and how they and study.toml become settings."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import click

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import hub_id_of
from lvjobs.study.config import Resources, Stage, Study, TrainSettings, validated
from lvjobs.study.run import RunConfig

F = TypeVar("F", bound=Callable[..., Any])

_RESOURCE_OPTIONS = (
    ("--partition", "partition", "Slurm partition."),
    ("--account", "account", "Slurm account."),
    ("--qos", "qos", "Slurm quality of service."),
    ("--time-limit", "time_limit", "Longest run time of one job: 12:00:00, 36h, 90m."),
    ("--memory-mb", "memory_mb", "Memory of one job in MiB."),
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
    """What a job asks of the cluster."""
    return _options(function, _RESOURCE_OPTIONS)


def train_options(function: F) -> F:
    """What a run trains; every value may be written as people write numbers (1e-5, 1e3)."""
    function = click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key of study.toml's [train], or resources.KEY; may be given again.",
    )(function)
    return _options(function, _TRAIN_OPTIONS)


def fit_options(function: F) -> F:
    """--fit and --yes."""
    function = click.option("--yes", is_flag=True, help="With --fit: submit what fits without asking.")(function)
    return click.option(
        "--fit",
        is_flag=True,
        help="Where the budget refuses: propose rarer validation, then fewer steps, and submit that if you agree.",
    )(function)


def profile_option(function: F) -> F:
    """--profile."""
    return click.option(
        "--profile", help="How the cluster is used: local, or a file of slurm_templates (default: study.toml's)."
    )(function)


def _options(function: F, table: Iterable[tuple[str, str, str]]) -> F:
    for flag, name, text in reversed(list(table)):
        function = click.option(flag, name, help=text)(function)
    return function


def given_resources(options: dict[str, Any]) -> dict[str, Any]:
    """The resource options that were typed, taken out of `options`."""
    names = [name for _, name, _ in _RESOURCE_OPTIONS]
    return {name: value for name in names if (value := options.pop(name)) is not None}


def settle(
    study: Study,
    options: dict[str, Any],
    pairs: Iterable[str],
    profile: str | None,
    extra: dict[str, Any] | None = None,
) -> tuple[TrainSettings, Resources, str]:
    """Settings, resources and profile: study.toml, then `extra` (a stage's), then what was typed, then --set.

    Raises:
        UsageError: a value that is none; names the option or key.
    """
    resources = given_resources(options)
    train = {name: value for name, value in options.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: write KEY=VALUE, such as --set lora_dropout=0.1")
        table, dot, inner = key.partition(".")
        if dot and table == "resources":
            resources[inner] = value
        else:
            train[key.removeprefix("train.")] = value
    base = study.config
    settings = validated(TrainSettings, {**base.train.model_dump(), **(extra or {}), **train}, "settings")
    asked = validated(Resources, {**base.resources.model_dump(), **resources}, "resources")
    return settings, asked, _profile(profile, Path()) if profile else _profile(base.profile, study.root)


def pinned(settings: TrainSettings, study: Study) -> TrainSettings:
    """The settings with `data` as an absolute path and its SHA-256, and a model by its absolute path or its hub id.

    Raises:
        UsageError: data that is missing, malformed, not finite, or of too few systems; names the file and the remedy.
    """
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import training_split

    data = load_dataset(_data_file(settings, study))
    training_split(len(data.trajectories), settings)
    return located(settings, study)


def located(settings: TrainSettings, study: Study) -> TrainSettings:
    """As `pinned`, for what only counts: the data are not looked into, and need not be there."""
    data = _data_file(settings, study)
    changes: dict[str, Any] = {"data": str(data), "data_sha256": _sha256(data) if data.is_file() else ""}
    directory = study.root / Path(settings.model).expanduser()
    if settings.model != "tiny" and directory.is_dir():
        changes["model"] = str(directory.resolve())
    else:
        changes["model"] = hub_id_of(settings.model)
    return settings.model_copy(update=changes)


def stage_configs(
    study: Study,
    stage: Stage,
    options: dict[str, Any],
    pairs: Iterable[str],
    profile: str | None,
    finish: Callable[[TrainSettings, Study], TrainSettings],
) -> tuple[list[RunConfig], Resources, str]:
    """The configurations of a stage's cells (`finish` is `pinned` or `located`), its resources and profile.

    Raises:
        UsageError: the stage has no cell; or see `settle`.
    """
    from lvjobs.sweep.grid import cells

    settled = [settle(study, dict(options), pairs, profile, dict(cell)) for cell in cells(stage)]
    if not settled:
        empty = next(key for key, values in stage.grid.items() if not values)
        raise UsageError(f"study.toml: stage {stage.name} has no runs: its grid has no value for {empty}; give it one")
    configs = [finish(settings, study).run_config() for settings, _, _ in settled]
    return configs, settled[0][1], settled[0][2]


def declared(study: Study) -> tuple[dict[str, list[RunConfig]], str]:
    """The configurations of every [[stage]], by its name, and the profile they are for; nothing typed changes them."""
    nothing = {name: None for _, name, _ in (*_RESOURCE_OPTIONS, *_TRAIN_OPTIONS)}
    found, profile = {}, study.config.profile
    for stage in study.config.stage:
        found[stage.name], _, profile = stage_configs(study, stage, nothing, (), None, located)
    return found, profile


def _data_file(settings: TrainSettings, study: Study) -> Path:
    return (study.root / Path(settings.data).expanduser()).absolute()


@lru_cache(maxsize=1)
def _sha256(data: Path) -> str:
    """Of the file that all cells of a stage name: read once a command, however many cells there are."""
    from lvjobs.forecasting.data import sha256

    return sha256(data)


def _profile(name: str, relative_to: Path) -> str:
    """The profile's name; a file's path as an absolute one, so that later passes find it from anywhere."""
    is_file = "/" in name or name.endswith(".j2")
    return str((relative_to / Path(name).expanduser()).absolute()) if is_file else name
