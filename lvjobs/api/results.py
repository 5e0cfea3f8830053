"""The values that `lvjobs.Study` returns. FLOPs are integers, times are seconds since the epoch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs.api.select import RunFilter
from lvjobs.records.summary import RunStatus, RunTable, StageStatus, Summary
from lvjobs.study.words import RunState

if TYPE_CHECKING:
    from lvjobs.control.inspect.alternatives import StartEstimate
    from lvjobs.control.inspect.describe import Description
    from lvjobs.control.inspect.history import Moment
    from lvjobs.control.inspect.why import Why
    from lvjobs.control.planning.fit import Proposal


@dataclass(frozen=True)
class Status:
    """A study after an update. `stored` is the update's summary; the rows of runs are read when they are used."""

    stored: Mapping[str, Any]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Return what `lvjobs status --json` prints (docs/json.md)."""
        return dict(self.stored)

    @cached_property
    def parsed(self) -> Summary:
        """Return the summary with typed runs, stages and nodes."""
        return Summary.from_dict(self.stored)

    @property
    def changes(self) -> Sequence[str]:
        """Return the changes that the update made, a line each."""
        return tuple(self.stored["did"])

    @property
    def problems(self) -> Sequence[str]:
        """Return the problems that the update found, a line each."""
        return tuple(self.stored["problems"])

    @property
    def stale(self) -> str:
        """Return why this status is an earlier update's; empty if the update was made now."""
        return str(self.stored.get("stale", ""))

    @property
    def runs(self) -> list[RunStatus]:
        """Return all runs, in the order in which they were declared."""
        return list(self.parsed.runs)

    @property
    def stages(self) -> list[StageStatus]:
        """Return the stages of study.toml, in their order."""
        return list(self.parsed.stages)

    def only(self, wanted: RunFilter) -> "Status":
        """Return the status of the chosen runs and of their stages, without the progress of the whole study.

        A run that several stages share is shown with the first.
        """
        rows = wanted.apply(self.stored["runs"])
        names = {wanted.stage, *(row["stage"] for row in rows)}
        stages = [row for row in self.stored["stages"] if row["name"] in names]
        return Status({**self.stored, "runs": rows, "stages": stages, "progress": None})

    def is_at_rest(self, names: Collection[str] | None = None) -> bool:
        """Return whether each of the named runs (None: all) has ended, or waits for the user."""
        states = {state for name, state in self.states.items() if names is None or name in names}
        return all(RunState(state).is_at_rest for state in states)

    @property
    def states(self) -> dict[str, str]:
        """Return the state of each run, by its name."""
        return RunTable.of(self.parsed.runs).states


@dataclass(frozen=True)
class BudgetStatus:
    """The FLOP budget. `free` is negative if the limit is below what is spent and reserved.

    `still_fits` is how much of each stage that has not begun fits into `free`; `problem` is why that is not known.
    `details` is what `lvjobs budget --json` prints beside it (docs/json.md).
    """

    limit: int
    spent: int
    reserved: int
    free: int
    by_stage: Mapping[str, int]
    details: Mapping[str, Any]
    still_fits: Sequence[Mapping[str, Any]] = ()
    problem: str = ""


@dataclass(frozen=True)
class Explanation:
    """The reason for a run's state: a headline, evidence, what happens next, and remedies (`why.remedies`)."""

    run: RunStatus
    why: "Why"
    status: Status

    def to_dict(self) -> dict[str, Any]:
        """Return what `lvjobs why RUN --json` prints."""
        return {"schema": 1, "run": self.run.to_dict(), **self.why.to_dict()}


@dataclass(frozen=True)
class RunDescription:
    """All that is known of a run, and its history."""

    run: RunStatus
    description: "Description"
    moments: Sequence["Moment"]
    status: Status

    def to_dict(self) -> dict[str, Any]:
        """Return what `lvjobs show RUN --json` prints."""
        story = [moment.to_dict() for moment in self.moments]
        return {"schema": 1, "run": self.run.to_dict(), **self.description.to_dict(), "story": story}


@dataclass(frozen=True)
class History:
    """A run's history, moment by moment, oldest first."""

    run: RunStatus
    moments: Sequence["Moment"]
    status: Status

    def to_dict(self) -> dict[str, Any]:
        """Return what `lvjobs status RUN --json` prints."""
        return {"schema": 1, "run": self.run.to_dict(), "story": [moment.to_dict() for moment in self.moments]}


@dataclass(frozen=True)
class WaitingJobs:
    """Runs whose jobs wait in the queue, and requests that would start the first of them sooner.

    Without `is_known`, the scheduler did not answer, or no update was possible, and the runs are those that waited at
    the last update.
    """

    runs: Sequence[RunStatus]
    alternatives: Sequence["StartEstimate"]
    status: Status
    is_known: bool = True


@dataclass(frozen=True)
class WrittenFiles:
    """Files that were written into a directory. `missing` has the reason for each figure that was not drawn.

    `details` is what `lvjobs report --json` or `figures --json` prints (docs/json.md).
    """

    directory: Path
    files: Sequence[str]
    missing: Mapping[str, str]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """The cost of runs. `details` is what `lvjobs plan --json` prints (docs/json.md).

    `needed` FLOPs are neither spent nor reserved yet. `fits`: whether the `free` FLOPs are enough. `problem`: why the
    ledger could not be read, so that spent FLOPs are not counted here; empty if it was read.
    """

    needed: int
    free: int
    fits: bool
    details: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Submission:
    """The result of a submission.

    `outcome`: `submitted` (`sent` runs with the first job, `waiting` runs follow), `limited` (there was no room),
    `planned` (the runs come after others), `deferred`, `unclear` (the scheduler's answer was lost), `exists` (all runs
    existed before), or `requested` (stages that reconcile passes submit later). `said` is the scheduler's message.
    `existing` are the states of runs that existed before, by name; `new` the names of the others. `fit` is the
    proposal that was submitted, if the budget refused the request.
    """

    outcome: str
    status: Status
    existing: Mapping[str, str] = field(default_factory=dict)
    new: Sequence[str] = ()
    sent: int = 0
    waiting: int = 0
    shares_job: bool = False
    job_id: str | None = None
    token: str | None = None
    said: str = ""
    note: str = ""
    fit: "Proposal | None" = None

    @property
    def names(self) -> Sequence[str]:
        """Return the names of all the runs."""
        return (*self.existing, *self.new)


@dataclass(frozen=True)
class Preview:
    """A preview of a submission: the batch `script`, the cost, and what would fit if the budget refuses (`fit`).

    `computed` explains the job's time limit if that is `auto`.
    """

    script: str
    computed: str
    estimate: Mapping[str, Any]
    fit: "Proposal | None" = None
