"""The actions that a pass can decide on. Each is idempotent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lvjobs.control.reconcile.classify import Failure
from lvjobs.ledger.records import AttemptRecord, WorkCounts
from lvjobs.study.words import Cause, HeldFor, RunState


@dataclass(frozen=True)
class SaveAttempt:
    """A write of an attempt's row (a new row if its id is 0)."""

    attempt: AttemptRecord


@dataclass(frozen=True)
class SetRun:
    """A change of a run's state and of the columns that explain it.

    `not_before` is in seconds since the epoch. `note` is an event, in words. `death` is the end of the run's latest
    attempt, if the change follows from it; `note` then says what follows.
    """

    run_id: str
    state: RunState
    reason: str = ""
    cause: Cause | None = None
    not_before: float = 0.0
    resources: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    held_for: HeldFor = HeldFor.NOTHING
    death: Failure | None = None

    @property
    def words(self) -> str:
        """Return the text that reports the change: the end of the attempt, and the note."""
        return "; ".join(filter(None, (self.death.words if self.death else "", self.note)))


@dataclass(frozen=True)
class Reserve:
    """Permission for the run to execute `work` in all, counted from step 0."""

    run_id: str
    work: WorkCounts


@dataclass(frozen=True)
class GiveBack:
    """The end of the run's reservation: the FLOPs that it did not spend are free again."""

    run_id: str


@dataclass(frozen=True)
class Submit:
    """The submission of a run that has no live submission."""

    run_id: str


@dataclass(frozen=True)
class RecordEvent:
    """An event of the run, in words; recorded once, however many passes decide on it."""

    run_id: str
    text: str


@dataclass(frozen=True)
class Adopt:
    """The job id of a submission whose job was found by its token."""

    token: str
    job_id: str


@dataclass(frozen=True)
class MarkMissing:
    """The time since when the member's job is missing, in seconds since the epoch; None: it was found again."""

    token: str
    run_id: str
    since: float | None


@dataclass(frozen=True)
class Revoke:
    """A ban on training this run by the member's job, whenever it starts; the job is cancelled if it exists."""

    token: str
    run_id: str


@dataclass(frozen=True)
class Settle:
    """The end of a member: its job is over. A revoked token stays revoked, because Slurm may run a job again."""

    token: str
    run_id: str


@dataclass(frozen=True)
class CancelJob:
    """The cancellation of a job, by scancel."""

    job_id: str
    run_id: str
    backend: str


@dataclass(frozen=True)
class Release:
    """The release of a job that Slurm holds after a failed launch."""

    job_id: str
    run_id: str
    backend: str


@dataclass(frozen=True)
class LiftHold:
    """The end of a requeued job's wait for its begin time."""

    job_id: str
    run_id: str
    token: str
    restart_count: int
    backend: str


@dataclass(frozen=True)
class Extend:
    """A longer time limit, `minutes`, for a job that waits, because the last limit was too short."""

    job_id: str
    run_id: str
    minutes: int
    backend: str


@dataclass(frozen=True)
class AvoidNode:
    """A node for the list of those that the study avoids; `reason` is in words."""

    node: str
    run_id: str
    reason: str


Action: TypeAlias = (
    SaveAttempt
    | SetRun
    | Reserve
    | GiveBack
    | Submit
    | RecordEvent
    | Adopt
    | MarkMissing
    | Revoke
    | Settle
    | CancelJob
    | Release
    | LiftHold
    | Extend
    | AvoidNode
)
