"""The options that `submit`, `sweep` and `estimate` share, and how they and study.toml become settings."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import click

from lvjobs.cluster.templates import located_profile
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.flops.architecture import hub_id_of
from lvjobs.study.config import Study, validated
from lvjobs.study.current import declared_settings
from lvjobs.study.run import CARRIED
from lvjobs.study.settings import RunSettings, TrainSettings, settings_model
from lvjobs.study.tables import Resources
from lvjobs.sweep.request import Request, with_facts

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
    """What a job asks of the cluster."""
    return _options(function, _RESOURCE_OPTIONS)


def train_options(function: F) -> F:
    """What a run trains; every value may be written as people write numbers (1e-5, 1e3)."""
    return _options(_set_option(function), _TRAIN_OPTIONS)


def run_options(function: F) -> F:
    """What a run of a task of one's own has; its keys are given with --set."""
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
    """What may change of a run that is there, beside its resources and profile."""
    function = click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="resources.KEY=VALUE",
        help='Any other key of [resources] in study.toml (a list: ["a", "b"]); may be given again.',
    )(function)
    return _options(function, _CARRIED_OPTIONS)


def carried_settings(study: Study, options: dict[str, Any]) -> dict[str, Any]:
    """Return what was typed of the settings that a run may change (`study.current`).

    Raises:
        UsageError: a value that is none; or a key that says what a run trains.
    """
    pairs, profile = options.pop("pairs"), options.pop("profile")
    train, resources = typed(options, pairs)
    if wrong := next((key for key in train if key not in CARRIED), None):
        raise UsageError(
            f"--set {wrong}: it says what a run trains, and a run that is there stays what it is; submit another one, "
            f"or set resources.KEY, {' or '.join(CARRIED)}"
        )
    asked = validated(Resources, {**study.config.resources.model_dump(), **resources}, "resources")
    known = study.config.train
    settings = validated(type(known), {**known.model_dump(), **train}, "settings")
    found = {key: getattr(asked, key) for key in resources} | {key: getattr(settings, key) for key in train}
    return found | ({"profile": located_profile(profile, Path())} if profile else {})


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
    return {name: value for name in names if (value := options.pop(name, None)) is not None}


def typed(options: dict[str, Any], pairs: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was typed of [train], and of [resources].

    Raises:
        UsageError: a --set that is none.
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
    return train, resources


def settle(
    study: Study, options: dict[str, Any], pairs: Iterable[str], profile: str | None
) -> tuple[RunSettings, Resources, str]:
    """Settings, resources and profile: study.toml, then what was typed, then --set.

    Raises:
        UsageError: a value that is none; names the option or key.
    """
    return settle_own(study, study.config.train, options, pairs, profile)


def settle_own(
    study: Study, train_settings: RunSettings, options: dict[str, Any], pairs: Iterable[str], profile: str | None
) -> tuple[RunSettings, Resources, str]:
    """The same, with other settings in place of [train]."""
    train, resources = typed(options, pairs)
    known = train_settings.model_dump()
    settings = validated(settings_model(known), {**known, **train}, "settings")
    return settings, *_asked(study, resources, profile)


def _asked(study: Study, resources: dict[str, Any], profile: str | None) -> tuple[Resources, str]:
    """Return the resources and the profile: what was typed before study.toml."""
    from lvjobs.control.backends import check_sbatch_options

    asked = validated(Resources, {**study.config.resources.model_dump(), **resources}, "resources")
    used = _profile(profile, study)
    check_sbatch_options(study, asked, used)
    return asked, used


def pinned(settings: RunSettings, study: Study) -> RunSettings:
    """The settings with `data` as an absolute path and its SHA-256, and a model by its absolute path or its hub id.

    Those of a task of one's own are left as they are.

    Raises:
        UsageError: data that is missing, malformed, not finite, or of too few systems; names the file and the remedy.
    """
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import training_split

    if not isinstance(settings, TrainSettings):
        return settings
    data = load_dataset(_data_file(settings, study))
    training_split(len(data.trajectories), settings)
    return located(settings, study)


def located(settings: RunSettings, study: Study) -> RunSettings:
    """As `pinned`, for what only counts: the data are not looked into, and need not be there."""
    if not isinstance(settings, TrainSettings):
        return settings
    data = _data_file(settings, study)
    changes: dict[str, Any] = {"data": str(data), "data_sha256": _sha256(data) if data.is_file() else ""}
    directory = study.root / expand_home(settings.model)
    if settings.model != "tiny" and directory.is_dir():
        changes["model"] = str(directory.resolve())
    else:
        changes["model"] = hub_id_of(settings.model)
    return settings.model_copy(update=changes)


def request(
    study: Study,
    options: dict[str, Any],
    pairs: Iterable[str],
    profile: str | None,
    finish: Callable[[RunSettings, Study], RunSettings],
) -> Request:
    """What is asked for with stages: study.toml and what was typed, with data and models as `finish` finds them.

    `finish` is `pinned` or `located`.

    Raises:
        UsageError: a value that is none; or see `pinned`.
    """
    train, resources = typed(options, pairs)
    base = study.config
    chosen, used_profile = _asked(study, resources, profile)
    asked = Request(
        train=base.train.model_dump(mode="json"),
        typed=train,
        resources=chosen,
        profile=used_profile,
        file=declared_settings(base, _profile(None, study), ""),
    )
    every = [each for stage in base.stage for each in asked.settings(stage, base.stage)]
    every.append(validated(asked.model, {**asked.train, **train}, "settings"))
    by_files = {(each.data, each.model): each for each in every if isinstance(each, TrainSettings)}
    found = {files: finish(each, study) for files, each in by_files.items()}
    return with_facts(asked, {files: each for files, each in found.items() if isinstance(each, TrainSettings)})


def declared(study: Study) -> Request:
    """What study.toml asks for by itself; nothing typed changes it."""
    return request(study, {}, (), None, located)


def _data_file(settings: TrainSettings, study: Study) -> Path:
    return (study.root / expand_home(settings.data)).absolute()


@lru_cache(maxsize=1)
def _sha256(data: Path) -> str:
    """Of the file that all cells of a stage name: read once a command, however many cells there are."""
    from lvjobs.forecasting.data import sha256

    return sha256(data)


def _profile(typed: str | None, study: Study) -> str:
    """The profile that was typed, else study.toml's."""
    return located_profile(typed, Path()) if typed else located_profile(study.config.profile, study.root)
