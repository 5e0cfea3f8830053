"""Evaluations: their preparation, and the study's tables of those that are done."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs import remedies
from lvjobs.api.settings import Overrides, settle
from lvjobs.api.subjects import Subject, done_evaluations, find_runs, find_subjects, held_out
from lvjobs.api.submit import PreparedRuns
from lvjobs.control.submission.declare import EVALUATE, RunRequest, default_name
from lvjobs.errors import UsageError
from lvjobs.forecasting.evaluations import EvaluationRequest, adapter_of, evaluation, training_of
from lvjobs.study.config import StudyContext
from lvjobs.study.evaluation import PromptName
from lvjobs.study.run import RunConfig

if TYPE_CHECKING:
    from lvjobs.report.table import Table


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
) -> PreparedRuns:
    """Prepare evaluations of runs, of the base model with a prompt, or of an adapter: of exactly one of these kinds.

    Raises:
        UsageError: None or several of the kinds are given, or a named run or adapter does not exist.
    """
    settings, resources, profile = settle(study, given)
    subjects = find_subjects(study, runs, zero_shot, adapter, settings)
    configs = [_evaluation_of(subject, trial) for subject in subjects]
    names = [default_name(config, subject.name) for subject, config in zip(subjects, configs, strict=True)]
    after = [subject.after for subject in subjects]
    wanted = RunRequest(configs, names, EVALUATE, profile, resources, after=after)
    return PreparedRuns(study, wanted, default_name)


def evaluation_to_come(study: StudyContext, name: str, config: RunConfig) -> tuple[RunConfig, str]:
    """Return the evaluation of a run that is not trained yet, and its name: all held-out series, greedily."""
    training = training_of(name, config)
    made = _evaluation_of(
        Subject(name, training, adapter_of(study.layout.run(name).final), training.format), EvaluationRequest()
    )
    return made, default_name(made, name)


def _evaluation_of(subject: Subject, trial: EvaluationRequest) -> RunConfig:
    """Return the evaluation of a model on series that it has not seen, in the format of its training."""
    systems = held_out(subject.training, trial, trained=bool(subject.adapter))
    return evaluation(subject.training, trial, systems, subject.adapter, subject.prompt)


def evaluation_tables(study: StudyContext, runs: Sequence[str] = ()) -> "list[Table]":
    """Return Tables 2 and 3 of these runs, or of all, from evaluations that are done.

    Raises:
        UsageError: There is nothing to show, or one of the runs has not been evaluated.
    """
    from lvjobs.report.study_tables import study_tables

    runs = [run.name for run in find_runs(study, runs)]
    done = done_evaluations(study)
    subjects = {each.subject for each in done}
    if missing := [name for name in runs if name not in subjects]:
        raise UsageError(f"{missing[0]} has not been evaluated; type: {remedies.EVALUATE(*study.where, runs=missing)}")
    tables = study_tables([each for each in done if not runs or each.is_zero_shot or each.subject in runs])
    if not tables:
        command = remedies.EVALUATE(*study.where, runs="RUN")
        raise UsageError(f"nothing in this study has been evaluated yet; type: {command}")
    return tables


def tables_of(study: StudyContext, names: Sequence[str]) -> "tuple[list[Table], list[str]]":
    """Return the tables of these evaluations and of base models on the same series, and the names not done yet."""
    from lvjobs.report.study_tables import study_tables

    done = done_evaluations(study)
    chosen = [each for each in done if each.files.root.name in names]
    same = {each.comparable for each in chosen}
    chosen += [each for each in done if each.is_zero_shot and each.comparable in same]
    found = {each.files.root.name for each in chosen}
    return study_tables(chosen), [name for name in names if name not in found]
