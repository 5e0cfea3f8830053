"""Evaluations: the models that can forecast (runs, base models, adapters), their evaluation, and the study's tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs.api import updates
from lvjobs.api.material import base_origin
from lvjobs.api.settings import Overrides, pinned, settle
from lvjobs.api.submit import PreparedRuns
from lvjobs.control.planning.ledger_view import read_ledger
from lvjobs.control.session import refuse_archived
from lvjobs.control.stages.origins import OWN, from_origins
from lvjobs.control.submission.declare import EVALUATE, RunRequest, default_name
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.forecasting.adapters import unpack_adapter
from lvjobs.forecasting.baselines.extras import canonical
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.evaluations import (
    EvaluationRequest,
    adapter_of,
    by_fold,
    covers,
    evaluation,
    same_forecast,
    training_of,
)
from lvjobs.forecasting.origins import check_origins
from lvjobs.forecasting.splits import make_split, training_split, whole_split
from lvjobs.ledger.records import RunRecord
from lvjobs.report.evaluated import Evaluated, evaluated
from lvjobs.report.extras import with_extras_shared
from lvjobs.report.folds import with_folds_pooled
from lvjobs.study.config import StudyContext
from lvjobs.study.params import SPLIT, EvaluationConfig, PromptName, TrainingConfig
from lvjobs.study.run import FOLD, RunConfig, read_params
from lvjobs.study.run_names import find_name
from lvjobs.study.settings import RunSettings, TrainSettings
from lvjobs.study.words import RunState
from lvjobs.tasks.registry import task_of

_HELD = ("train_systems", "validation_systems")


@dataclass(frozen=True)
class Subject:
    """A model that can forecast: its name, its training, its adapter and its prompt.

    `training` decides how its series are written. `after` is the id of the run to wait for.
    """

    name: str
    training: TrainingConfig
    adapter: str
    prompt: PromptName
    after: str = ""


def find_subjects(
    study: StudyContext, runs: Sequence[str], zero_shot: PromptName | None, adapter: Path | None, settings: RunSettings
) -> list[Subject]:
    """Return the named runs, the base model or the adapter: exactly one of these kinds.

    `settings` name the model and the data if no run is named.

    Raises:
        UsageError: none or several of the kinds are given, or a run, the adapter or the data does not exist.
    """
    if (bool(runs) + bool(zero_shot) + bool(adapter)) != 1:
        raise UsageError("give exactly one of RUN, --zero-shot raw|instruct, or --adapter DIRECTORY")
    if runs:
        found = [(run, training_of(run.name, run.configuration)) for run in find_runs(study, runs)]
        return [
            Subject(run.name, training, adapter_of(study.layout.run(run.name).final), training.format, run.id)
            for run, training in found
        ]
    directory = _adapter_directory(study, adapter) if adapter else ""
    if not isinstance(settings, TrainSettings):
        raise UsageError(
            "[train] in study.toml names a task of your own, which makes no forecasts; name another study with --study"
        )
    # [train] is read for the model and the data only. `pinned` refuses data that cannot be used.
    training = training_of("[train]", pinned(settings, study).run_config())
    if adapter:
        training = _with_split_of(study, adapter, training)
    name = Path(directory).name or f"zero-shot-{zero_shot}-{Path(settings.model).name}"
    return [Subject(name, training, directory, zero_shot or "raw")]


def check_settings_of_runs(given: Overrides, runs: Sequence[str]) -> None:
    """Refuse settings of a training for runs that are trained already (UsageError); a seed is that of the samples."""
    if runs and (key := next((key for key in given.settings if key != "seed"), None)):
        raise UsageError(
            f"{key}: {runs[0]} forecasts with the settings that it was trained with; leave {key} out, or submit "
            f"another run with it"
        )


def _adapter_directory(study: StudyContext, adapter: Path) -> str:
    path = (study.root / expand_home(adapter)).absolute()
    if path.is_file():
        path = unpack_adapter(path, study.layout.internal / "adapters")
    if not (path / "adapter_config.json").is_file():
        raise UsageError(f"{path} holds no adapter_config.json: name the directory that PEFT saved, or a checkpoint")
    return str(path)


def _with_split_of(study: StudyContext, adapter: Path, training: TrainingConfig) -> TrainingConfig:
    """Return the settings with the split of the study's run that made the adapter, whose scored systems it never saw.

    An adapter from elsewhere has the split that the settings have: nothing is known of what it was trained on.
    """
    path = (study.root / expand_home(adapter)).resolve()
    for run in seen_runs(study):
        if path.is_relative_to(study.layout.run(run.name).root.resolve()):
            made = training_of(run.name, run.configuration)
            return training.model_copy(
                update={key: getattr(made, key) for key in (*SPLIT, FOLD, "data_systems", *_HELD)}
            )
    return training


def held_out(training: TrainingConfig, trial: EvaluationRequest, *, trained: bool) -> list[int]:
    """Return the indices of the systems to forecast: the first `trial.series` of the split's test systems.

    Raises:
        UsageError: the data cannot be read; or the model was `trained`, and the split has systems on which it was
            trained or validated.
    """
    systems = systems_in(training)
    split = whole_split(systems, training)
    if trial.split == "random":
        steps = {"history": training.history_steps, "horizon": training.horizon_steps}
        split = make_split(systems, "random", seed=trial.seed, **steps)
    if trained:
        split.reject_seen(training_split(systems, training).seen)
    return list(split.test[: trial.series])


def check_origins_in_data(training: TrainingConfig, origins: Sequence[int]) -> None:
    """Refuse forecast origins from which no forecast of the training's data can be made and scored (UsageError)."""
    if origins:
        steps = training.history_steps + training.horizon_steps
        check_origins(origins, training, len(load_dataset(Path(training.data), steps=steps).time))


def systems_in(training: TrainingConfig) -> int:
    """Count the systems in the data file. Raises UsageError if the file cannot be used."""
    steps = training.history_steps + training.horizon_steps
    return len(load_dataset(Path(training.data), steps=steps).trajectories)


def seen_runs(study: StudyContext) -> Sequence[RunRecord]:
    """Return all runs of the study. Raises UsageError if the ledger cannot be read."""
    seen = read_ledger(study, updates.READ_WAIT_SECONDS)
    if seen.problem:
        raise UsageError(seen.problem)
    return seen.runs


def find_runs(study: StudyContext, names: Sequence[str]) -> list[RunRecord]:
    """Return the runs of these names (or enough of each name). Raises UsageError for a run that does not exist."""
    by_name = {run.name: run for run in seen_runs(study)}
    found = [by_name[find_name(name, by_name, study.where)] for name in names]
    for run in found:
        refuse_archived(study, run.name)
    return found


def done_evaluations(study: StudyContext) -> list[Evaluated]:
    """Return the study's evaluations that are done, those of the folds of one split pooled."""
    return with_folds_pooled(with_extras_shared(evaluated(study.layout, seen_runs(study), base_origin(study))))


def make_trial(*, samples: int = 1, temperature: float | None = None, **more: Any) -> EvaluationRequest:
    """Return the settings of forecasts: greedy for 1 sample, else temperature 1, unless `temperature` is given.

    `more` are other fields of `EvaluationRequest`.

    Raises:
        UsageError: Several samples at temperature 0 would all be the same.
    """
    if temperature is None:
        temperature = 0.0 if samples == 1 else 1.0
    if samples > 1 and not temperature:
        raise UsageError("--temperature 0 makes every sample the same: leave --samples out, or give a temperature")
    return EvaluationRequest(samples=samples, temperature=temperature, **more)


def prepare_evaluations(
    study: StudyContext,
    given: Overrides,
    trial: EvaluationRequest,
    runs: Sequence[str] = (),
    zero_shot: PromptName | None = None,
    adapter: Path | None = None,
    origins: Sequence[int] = (),
    baselines: Sequence[str] | None = None,
    *,
    again: bool = False,
) -> PreparedRuns:
    """Prepare evaluations of runs, of the base model with a prompt, or of an adapter: of exactly one of these kinds.

    `origins`: the forecast origins, each an evaluation of its own; none: that of each training (`history_steps`).
    `baselines`: the extra baselines; None: those of study.toml. An evaluation that has the same forecasts, and maybe
    more, stands for a new one, unless `again` is given.

    Raises:
        UsageError: None or several of the kinds are given, a named run or adapter does not exist, settings of a
            training are given with runs, no forecast can be made and scored from an origin, or there is no such extra
            baseline.
    """
    trial = replace(trial, baselines=baselines_of_study(study, baselines))
    settings, resources, profile = settle(study, given)
    subjects = find_subjects(study, runs, zero_shot, adapter, settings)
    check_settings_of_runs(given, runs)
    if zero_shot and trial.split != "random":
        subjects = [
            replace(each, name=each.name + ending, training=training)
            for each in subjects
            for ending, training in by_fold(each.training)
        ]
    configs, names, after = [], [], []
    for subject in subjects:
        check_origins_in_data(subject.training, origins)
        for config, name in from_origins(_evaluation_of(subject, trial), subject.name, origins or (OWN,)):
            configs.append(config)
            names.append(name)
            after.append(subject.after)
    notes = [] if again else _with_existing(study, configs, names)
    wanted = RunRequest(configs, names, EVALUATE, profile, resources, after=after)
    return PreparedRuns(study, wanted, default_name, given=given, notes=notes)


def _with_existing(study: StudyContext, configs: list[RunConfig], names: list[str]) -> list[str]:
    """Replace evaluations that existing ones cover by these, in place; return a line for each."""
    made = [
        run for run in seen_runs(study) if task_of(run.config).is_evaluation and run.state is not RunState.CANCELLED
    ]
    lines = []
    for place, config in enumerate(configs):
        found = [run for run in made if covers(run.configuration, config)]
        if not found:
            lines += _overlaps(made, config, names[place])
            continue
        if any(run.fingerprint == config.fingerprint for run in found):
            continue
        best = min(found, key=lambda run: run.state is not RunState.COMPLETED)
        lines.append(
            f"{names[place]} would repeat the forecasts of {best.name} ({best.state.value}), which is used instead; "
            "--again to evaluate anyway"
        )
        configs[place], names[place] = best.configuration, best.name
    return lines


def _overlaps(made: Iterable[RunRecord], wanted: RunConfig, name: str) -> list[str]:
    """Return a line on the largest existing evaluation of a part of the series of a new one; none if there is none."""
    systems = _systems_of(wanted)
    alike = [run for run in made if same_forecast(run.configuration, wanted)]
    parts = sorted((len(part), run.name) for run in alike if (part := _systems_of(run.configuration)) < systems)
    return [
        f"{name} forecasts {len(systems)} series, of which {run} already has {count}: these are forecast again"
        for count, run in parts[-1:]
    ]


def _systems_of(config: RunConfig) -> set[int]:
    return {*read_params(EvaluationConfig, config.params).systems}


def evaluation_to_come(study: StudyContext, name: str, config: RunConfig) -> tuple[RunConfig, str]:
    """Return the evaluation of a run that is not trained yet, and its name: all held-out series, greedily."""
    training = training_of(name, config)
    subject = Subject(name, training, adapter_of(study.layout.run(name).final), training.format)
    made = _evaluation_of(subject, EvaluationRequest(baselines=baselines_of_study(study)))
    return made, default_name(made, name)


def baselines_of_study(study: StudyContext, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return these extra baselines, sorted and once each; None: those of [evaluation]. UsageError: there is no such."""
    return tuple(canonical(study.config.evaluation.baselines if names is None else names, study.root))


def _evaluation_of(subject: Subject, trial: EvaluationRequest) -> RunConfig:
    """Return the evaluation of a model on series that it has not seen, in the format of its training."""
    systems = held_out(subject.training, trial, trained=bool(subject.adapter))
    return evaluation(subject.training, trial, systems, subject.adapter, subject.prompt)
