"""The methods of `lvjobs.Study` that start and end nothing: a study's status, its budget, and the cost of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.results import BudgetStatus, Estimate, Explanation, History, RunDescription, Status, WaitingJobs
from lvjobs.api.select import name_of
from lvjobs.api.settings import Overrides, located, request
from lvjobs.errors import Unwritable, UsageError
from lvjobs.ledger.lease import LeaseTaken
from lvjobs.records.summary import RunStatus, StageStatus, read_row
from lvjobs.study.config import StudyContext
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.study.words import RunState
from lvjobs.sweep.request import Request

Values = Mapping[str, Any]
RUN = "train"
"""The name that stands for a single run, in place of a stage's."""


def given(settings: Values | None, resources: Values | None, profile: str | None) -> Overrides:
    """Return the caller's overrides of study.toml."""
    return Overrides(settings or {}, resources or {}, profile)


@dataclass(frozen=True)
class StudyView(StudyContext):
    """Questions about a study. Most of them reconcile first, as `lvjobs.Study` describes."""

    def status(self, *, reconcile: bool = True) -> Status:
        """Return the study's status.

        Args:
            reconcile: Update first. If that is not possible within 5 s, or not wanted, return the last update's status;
                its `stale` has the reason.

        Raises:
            LvjobsError: No update is possible, and none was ever made.
        """
        if reconcile:
            from lvjobs.control.recovery.place import PlaceUnclear

            try:
                with updates.reconciled(self, wait=updates.READ_WAIT_SECONDS, hurry=True) as (_, status):
                    return status
            except (LeaseTaken, PlaceUnclear, Unwritable) as error:
                return updates.last_status(self, error)
        if not self.layout.summary.exists():
            raise UsageError(f"{self.root} was never updated; type: {remedies.STATUS(*self.where)}")
        return updates.last_status(self, UsageError("not updated (--no-pass)"))

    def runs(self, *, reconcile: bool = True) -> list[RunStatus]:
        """Return all runs, in the order in which they were declared. See `status`.

        Example:
            >>> pandas.DataFrame(study.runs())[["name", "state", "validation_loss"]]
        """
        return self.status(reconcile=reconcile).runs

    def stages(self, *, reconcile: bool = True) -> list[StageStatus]:
        """Return the stages of study.toml, in their order. See `status`."""
        return self.status(reconcile=reconcile).stages

    def wait(
        self,
        runs: Sequence[str] | None = None,
        *,
        timeout: float = float("inf"),
        every: float = 5.0,
        on_update: Callable[[Status], None] = lambda _: None,
    ) -> list[RunStatus]:
        """Reconcile until runs have ended, are held or paused, and return them.

        Args:
            runs: Names of runs; None: all runs, and until nothing more can start by itself.
            timeout: Seconds after which to give up.
            every: Seconds between two updates.
            on_update: Called with the status after each update.

        Raises:
            TimeoutError: The runs were not at rest in time. They continue.
        """
        status = updates.wait_until_rest(self, runs, every, on_update, timeout)
        return [run for run in status.runs if runs is None or run.name in runs]

    def why(self, run: str) -> Explanation:
        """Return the reason for a run's state, with evidence and remedies.

        Raises:
            UsageError: No run has this name or id, or several begin or end like that.
        """
        from lvjobs.control.inspect.why import why
        from lvjobs.control.summary import find_row

        with updates.looked(self) as (session, status):
            row = find_row(status.stored, name_of(self, run), self.where)
            return Explanation(read_row(RunStatus, row), why(session, row), status)

    def describe(self, run: str) -> RunDescription:
        """Return all that is known of a run: settings, files, job, attempts, metrics, cost, origin, and its history.

        Raises:
            UsageError: No run has this name or id, or several begin or end like that.
        """
        from lvjobs.control.inspect.describe import describe
        from lvjobs.control.inspect.history import history_of
        from lvjobs.control.summary import find_row

        with updates.looked(self) as (session, status):
            row = find_row(status.stored, name_of(self, run), self.where)
            found, moments = describe(session, row), session.ledger.call(history_of, row["id"])
        return RunDescription(read_row(RunStatus, row), found, moments, status)

    def history(self, run: str) -> History:
        """Return a run's history, moment by moment. Raises UsageError for a run that does not exist."""
        from lvjobs.control.inspect.history import history_of
        from lvjobs.control.summary import find_row

        with updates.looked(self) as (session, status):
            row = find_row(status.stored, name_of(self, run), self.where)
            moments = session.ledger.call(history_of, row["id"])
        return History(read_row(RunStatus, row), moments, status)

    def queue(self, run: str | None = None) -> WaitingJobs:
        """Return the waiting jobs, and requests that would start the first, or that of `run`, sooner. Submit nothing.

        If the scheduler does not answer, or no update is possible, return the jobs that waited at the last update, and
        `is_known` is False.

        Raises:
            UsageError: The run does not exist, or its job does not wait.
        """
        from lvjobs.control.inspect.alternatives import find_alternatives, waiting_rows

        with updates.looked(self) as (session, status):
            if session.is_silent or status.stale:
                waiting = [row for row in status.stored["runs"] if row["state"] == RunState.QUEUED]
                return WaitingJobs([read_row(RunStatus, row) for row in waiting], [], status, is_known=False)
            waiting = [*waiting_rows(status.stored, name_of(self, run) if run else None, self.where)]
            answers = find_alternatives(session, waiting[0]) if waiting else []
        return WaitingJobs([read_row(RunStatus, row) for row in waiting], answers, status)

    def budget(self, *, reconcile: bool = True) -> BudgetStatus:
        """Return the FLOPs spent, reserved and free, and the steps that fit. See `status` for `reconcile`."""
        return budget_of(self._now(), self.status(reconcile=reconcile))

    def estimate(
        self,
        what: str | None = None,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        flops_per_second: float | None = None,
    ) -> Estimate:
        """Return the cost of a run ("train"), of a stage, or of every stage (None). The data need not exist.

        Args:
            what: "train", a stage's name, or None.
            settings: Keys of [train] that override study.toml.
            resources: Keys of [resources] that override study.toml.
            profile: The cluster profile; None: that of study.toml.
            flops_per_second: The speed for the times of runs whose settings were not measured.

        Raises:
            UsageError: There is no such stage, or a value is not allowed.
        """
        study = self._now()
        asked = request(study, given(settings, resources, profile), located)
        if what == RUN:
            (declared,) = asked.settings(Stage(name=RUN), ())
            return foresee_stages(study, (), asked, flops_per_second, {RUN: [declared.run_config()]})
        if not study.config.stage:
            one = remedies.ESTIMATE_TRAIN(*study.where)
            raise UsageError(f"study.toml declares no [[stage]]; add one, or type: {one}")
        chosen = study.config.stage if what is None else [study.config.stage_named(what)]
        return foresee_stages(study, chosen, asked, flops_per_second)

    def plan(
        self,
        stage: str | None = None,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
    ) -> Estimate:
        """Return what a stage (None: every stage) will cost and reuse; submit nothing. See `sweep` for arguments."""
        return self.estimate(stage, settings, resources=resources, profile=profile)

    def _now(self) -> StudyContext:
        """Return the study with the current [budget] of study.toml: this object may be hours old."""
        from lvjobs.control.budget.limit import reread_budget

        return reread_budget(self)


def foresee_stages(
    study: StudyContext,
    chosen: Sequence[Stage],
    asked: Request,
    flops_per_second: float | None = None,
    others: Mapping[str, Sequence[RunConfig]] | None = None,
) -> Estimate:
    """Return the cost of the `chosen` stages as they are requested, or of `others` (runs by stage) if given."""
    from lvjobs.control.planning.foresee import foresee, unfolded
    from lvjobs.control.planning.ledger_view import read_ledger

    seen = read_ledger(study, updates.READ_WAIT_SECONDS)
    names = {each.name for each in chosen}
    configs = others or {name: found for name, found in unfolded(study, asked, seen).items() if name in names}
    found = foresee(study, configs, seen, asked.resources, asked.profile, flops_per_second)
    return Estimate(found["needed"], found["free"], found["fits"], found, seen.problem)


def budget_of(study: StudyContext, status: Status) -> BudgetStatus:
    """Return the budget of a status, and how much of each later stage the free FLOPs allow."""
    found = status.stored["budget"]
    fits, problem = _still_fits(study, status)
    return read_row(BudgetStatus, {**found, "details": found, "still_fits": fits, "problem": problem})


def _still_fits(study: StudyContext, status: Status) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Return how much of each later stage would fit, and the reason if that is not known."""
    over = {stage["name"] for stage in status.stored["stages"] if stage["state"] == "completed"}
    if all(stage.name in over for stage in study.config.stage):
        return [], ""
    from lvjobs.control.planning.foresee import unfolded, what_still_fits
    from lvjobs.control.planning.ledger_view import read_ledger

    try:
        asked = request(study, Overrides(), located)
        seen = read_ledger(study, updates.READ_WAIT_SECONDS)
        fits = [] if seen.problem else what_still_fits(study, unfolded(study, asked, seen), seen, asked.profile)
    except UsageError as error:
        return [], f"the cost of the declared stages cannot be counted: {error}"
    return fits, ""
