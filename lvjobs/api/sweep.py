"""Stages: their preparation, plan, submission and comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.evaluate import check_origins_in_data, held_out, systems_in
from lvjobs.api.results import Estimate, Status, Submission
from lvjobs.api.settings import Overrides, located, pinned, request
from lvjobs.api.submit import PreparedRuns, refuse_ignored
from lvjobs.api.view import foresee_stages
from lvjobs.control.planning.ledger_view import read_ledger
from lvjobs.control.session import Session
from lvjobs.control.stages.comparison import standing as compare
from lvjobs.control.stages.continuation import continued, find_starts
from lvjobs.control.stages.expand import zero_shot
from lvjobs.control.stages.requests import ask, asked_for, has_begun, stage_request
from lvjobs.control.submission.declare import default_name
from lvjobs.errors import UsageError
from lvjobs.forecasting.evaluations import EvaluationRequest, training_of
from lvjobs.forecasting.needs import UsableBaseline
from lvjobs.forecasting.splits import training_split
from lvjobs.report.terminal.verdict_lines import refusal
from lvjobs.study.config import StudyContext
from lvjobs.study.params import VALIDATED
from lvjobs.study.run import FOLD, RunConfig
from lvjobs.study.settings import TrainSettings
from lvjobs.study.stage_order import taken
from lvjobs.study.stages import Stage
from lvjobs.study.tables import check_time_unit
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import check_needs

ALL = "all"
_OF_THE_DATA = VALIDATED | {FOLD, "train_systems"}
"""The keys that have to fit the data's number of systems and steps."""


@dataclass(frozen=True)
class PreparedStages:
    """Stages that reconcile passes submit, each after the stages that it waits for."""

    study: StudyContext
    chosen: Sequence[Stage]
    requested: Request
    given: Overrides = field(default_factory=Overrides)

    def plan(self) -> Estimate:
        """Return the cost of the stages; submit nothing."""
        return foresee_stages(self.study, self.chosen, self.requested)

    def submit(self, plan: Estimate | None = None) -> Submission:
        """Request the stages, and reconcile once. Later passes do the rest. `plan` is this object's plan, if known.

        Raises:
            UsageError: No job could load a model, the budget has no room for all of it, a stage comes after one that is
                not requested, or all have begun and the overrides would have no effect. Nothing was submitted.
        """
        self.check_models()
        if words := refusal((plan or self.plan()).details, self.study.where):
            costs = remedies.SWEEP_PLAN(*self.study.where)
            raise UsageError(f"{words}; nothing was submitted; to compare plans, or to apply one, see: {costs}")
        return Submission("requested", updates.update(self.study, self._ask))

    def _ask(self, session: Session) -> list[str]:
        with session.ledger.transaction() as transaction:
            records, cells = {each.name: each for each in transaction.stages()}, transaction.cells()
            runs = transaction.runs()
        if all(has_begun(records[one.name], one, self.requested) for one in self.chosen):
            own = {run_id for one in self.chosen for run_id in cells.get(one.name, ())}
            refuse_ignored((run for run in runs if run.id in own), self.given, self.requested.profile)
        return ask(session, self.chosen, self.requested)

    def check_models(self) -> None:
        """Refuse models and extra baselines that no job could load (UsageError), before anything is written."""
        every, asked = self.study.config.stage, self.requested
        trained = [config for one in self.chosen if not one.evaluates for config in asked.configs(one, every)]
        untrained = [config for one in self.chosen for _, config in zero_shot(one, every, asked, series=1)]
        check_needs([*trained, *untrained], self.study.root, asked.resources.activate)
        for name in asked.baselines if any(one.evaluates for one in self.chosen) else ():
            UsableBaseline(name).check()


def stages_named(study: StudyContext, name: str) -> list[Stage]:
    """Return the stage of this name, or all for `ALL`.

    Raises:
        UsageError: study.toml declares no such stage, or none at all.
    """
    chosen = list(study.config.stage) if name == ALL else [study.config.stage_named(name)]
    if not chosen:
        raise UsageError("study.toml declares no [[stage]], so there is nothing to sweep; add one")
    return chosen


def plan_stages(study: StudyContext, name: str, given: Overrides) -> PreparedStages:
    """Prepare stages for their plan alone: neither data nor models need exist.

    Raises:
        UsageError: There is no such stage, a value is not allowed, or the data exist and have too few systems or steps.
    """
    chosen = stages_named(study, name)
    asked = request(study, given, located)
    _check_data(study, chosen, asked)
    return PreparedStages(study, chosen, asked)


def prepare_stages(
    study: StudyContext, name: str, given: Overrides, *, fit: bool = False
) -> PreparedRuns | PreparedStages:
    """Prepare a stage's runs if they are known; else prepare stages that passes submit later.

    `fit`: require known runs, because the budget may refuse them and a smaller request be proposed.

    Raises:
        UsageError: There is no such stage, a value is not allowed, or `fit` is given and the runs are not known.
    """
    chosen = stages_named(study, name)
    if fit and name == ALL:
        every = remedies.SWEEP_PLAN(*study.where)
        raise UsageError(f"--fit works on one stage; for all stages, see: {every}")
    asked = request(study, given, pinned)
    check_time_unit(asked.resources.time_limit, "time_limit =")
    _check_data(study, chosen, asked)
    asked = _with_systems(study, chosen, asked)
    ready = _ready(study, chosen, asked)
    if fit and chosen[0].space:
        raise UsageError(
            f"--fit needs runs that are known, and stage {name} searches for its settings; use fewer trials, or fewer "
            f"steps"
        )
    if ready is None and fit:
        costs = remedies.SWEEP_PLAN(*study.where)
        raise UsageError(f"--fit needs runs that can start now, and stage {name} depends on other stages; see: {costs}")
    if ready is None:
        return PreparedStages(study, chosen, asked, given)
    return _prepared(study, chosen[0], asked, ready, given)


def _ready(study: StudyContext, chosen: Sequence[Stage], asked: Request) -> list[RunConfig] | None:
    """Return the runs of one stage whose parent is decided; None if stages wait for others, or for a sampler."""
    if len(chosen) > 1 or chosen[0].evaluates or chosen[0].space:
        return None
    (one,) = chosen
    if not one.awaited and not one.origin:
        return asked.configs(one, study.config.stage)
    seen = read_ledger(study, updates.READ_WAIT_SECONDS)
    if not set(one.awaited) <= set(seen.winners):
        return None
    winner = seen.winners[one.origin] if one.origin else None
    configs = asked.configs(one, study.config.stage, winner.configuration if winner is not None else None)
    if one.continues and winner is not None:
        return continued(one, configs, find_starts(study.layout, winner, seen.runs))
    return configs


def _prepared(
    study: StudyContext, one: Stage, asked: Request, configs: Sequence[RunConfig], given: Overrides
) -> PreparedRuns:
    def name_of(config: RunConfig) -> str:
        return default_name(config, one.name, one.varied)

    wanted = stage_request(asked_for(one, asked), [(config, name_of(config), "") for config in configs])
    return PreparedRuns(study, wanted, name_of, given=given)


def _with_systems(study: StudyContext, chosen: Sequence[Stage], asked: Request) -> Request:
    """Return the request, with the held-out systems that evaluations forecast.

    Raises:
        UsageError: A stage evaluates, and study.toml's [evaluation] has series = 0.
    """
    evaluating = [each for each in chosen if each.evaluates]
    if not evaluating:
        return asked
    series = study.config.evaluation.series
    if not series:
        raise UsageError(
            f"{evaluating[0].name} evaluates, and study.toml's [evaluation] has series = 0: set series, or remove the "
            f"stage"
        )
    training = training_of("[train]", asked.evaluated(evaluating[0], study.config.stage)[0])
    systems = held_out(training, EvaluationRequest(series=series), trained=True)
    return asked.model_copy(update={"systems": systems, "origins": study.config.evaluation.origins})


def _check_data(study: StudyContext, chosen: Sequence[Stage], asked: Request) -> None:
    """Refuse splits and forecast origins for which the data have too few systems or steps, if the data are there.

    Raises:
        UsageError: the message names the setting that does not fit.
    """
    every, checked = study.config.stage, set()
    for one in chosen if asked.model is TrainSettings else ():
        if _OF_THE_DATA & {*taken(one, every)}:  # these depend on a winner
            continue
        for config in asked.evaluated(one, every) if one.evaluates else asked.configs(one, every):
            training = training_of("[train]", config)
            part = tuple(getattr(training, key) for key in sorted(_OF_THE_DATA))
            if part in checked or not Path(training.data).is_file():
                continue
            checked.add(part)
            training_split(systems_in(training), training)
            if one.evaluates:
                check_origins_in_data(training, study.config.evaluation.origins)


def standing(study: StudyContext, name: str) -> tuple[Status, Mapping[str, Any] | None]:
    """Return the status, and the comparison of a stage's runs, best first (docs/json.md).

    The comparison is None for a stage of evaluations.
    """
    evaluates = any(each.name == name and each.evaluates for each in study.config.stage)
    with updates.reconciled(study, wait=updates.READ_WAIT_SECONDS) as (session, status):
        return status, None if evaluates else compare(session, name)
