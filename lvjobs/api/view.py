"""The half of `lvjobs.Study` that starts and ends nothing: how a study stands, and what runs would cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lvjobs.api import costs, inspect, updates
from lvjobs.api.results import (
    BudgetStatus,
    Estimate,
    Explanation,
    History,
    StageStatus,
    Status,
    WaitingJobs,
)
from lvjobs.records.summary import RunStatus
from lvjobs.study.config import StudyContext

if TYPE_CHECKING:
    from lvjobs.api.settings import Overrides

Values = Mapping[str, Any]


def given(settings: Values | None, resources: Values | None, profile: str | None) -> "Overrides":
    """Return what a caller gives over study.toml."""
    from lvjobs.api.settings import Overrides

    return Overrides(settings or {}, resources or {}, profile)


@dataclass(frozen=True)
class StudyView(StudyContext):
    """Questions about a study. Most of them reconcile first, as `lvjobs.Study` describes."""

    def status(self, *, reconcile: bool = True) -> Status:
        """Return how the study stands.

        Args:
            reconcile: Update first. Where that is not possible within 3 s, or not wanted, the last update's status is
                returned, and its `stale` says why.

        Raises:
            LvjobsError: No update is possible, and none was ever made.
        """
        return updates.latest(self, reconcile=reconcile)

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
            runs: Their names; None: all, and then until no run can be resumed by itself either.
            timeout: Seconds after which to give up.
            every: Seconds between two updates.
            on_update: Called with the status after each update.

        Raises:
            TimeoutError: They were not at rest in time. They go on.
        """
        status = updates.wait_until_rest(self, runs, every, on_update, timeout)
        return [run for run in status.runs if runs is None or run.name in runs]

    def why(self, run: str) -> Explanation:
        """Return why a run stands as it does, with the evidence, and what helps.

        Raises:
            UsageError: No run has this name, or begins or ends like that.
        """
        return inspect.explain(self, run)

    def history(self, run: str) -> History:
        """Return what happened to a run, moment by moment. Raises UsageError for a run that is not there."""
        return inspect.history(self, run)

    def queue(self, run: str | None = None) -> WaitingJobs:
        """Return which jobs wait, and what would start the first, or that of `run`, sooner. Submits nothing."""
        return inspect.waiting_jobs(self, run)

    def budget(self, *, reconcile: bool = True) -> BudgetStatus:
        """Return the FLOPs spent, reserved and free, and how far they go. See `status` for `reconcile`."""
        return costs.budget(self._now(), self.status(reconcile=reconcile))

    def estimate(
        self,
        what: str | None = None,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        flops_per_second: float | None = None,
    ) -> Estimate:
        """Return what a run ("train"), a stage, or every stage (None) will cost. Data need not be there.

        Args:
            what: "train", a stage's name, or None.
            settings: Keys of [train] over those of study.toml.
            resources: Keys of [resources] over those of study.toml.
            profile: How the cluster is used; None: as study.toml has it.
            flops_per_second: For the times of runs like which none was measured.

        Raises:
            UsageError: No such stage, or a value that is not allowed.
        """
        return costs.estimate(self._now(), what, given(settings, resources, profile), flops_per_second)

    def plan(
        self,
        stage: str | None = None,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
    ) -> Estimate:
        """Return what a stage (None: every stage of study.toml) will cost and reuse; submit nothing. See `sweep`."""
        return self.estimate(stage, settings, resources=resources, profile=profile)

    def _now(self) -> StudyContext:
        """Return the study with [budget] as study.toml has it now: this object may be hours old."""
        from lvjobs.control.budget.limit import reread_budget

        return reread_budget(self)
