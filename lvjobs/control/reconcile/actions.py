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

    `not_before` is in seconds since the epoch. `note` is an event, in words. `failure` is the end of the run's latest
    attempt, if the change follows from it; `note` then has the consequence.
    """

    run_id: str
    state: RunState
    reason: str = ""
    cause: Cause | None = None
    not_before: float = 0.0
    resources: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    held_for: HeldFor = HeldFor.NOTHING
    failure: Failure | None = None

    @property
    def words(self) -> str:
        """Return the text that reports the change: the end of the attempt, unless that was at a rung, and the note."""
        ended = self.failure.words if self.failure and self.held_for is not HeldFor.RUNG else ""
        return "; ".join(filter(None, (ended, self.note)))


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
class MemberAction:
    """A change of a run's place in a submission."""

    token: str
    run_id: str


@dataclass(frozen=True)
class MarkMissing(MemberAction):
    """The time since when the member's job is missing, in seconds since the epoch; None: it was found again."""

    since: float | None


class Revoke(MemberAction):
    """A ban on training this run by the member's job, whenever it starts; the job is cancelled if it exists."""


class Settle(MemberAction):
    """The end of a member: its job is over. A revoked token stays revoked, because Slurm may run a job again."""


@dataclass(frozen=True)
class JobAction:
    """A request to the cluster about a job."""

    job_id: str
    run_id: str
    backend: str


class CancelJob(JobAction):
    """The cancellation of a job, by scancel."""


class Release(JobAction):
    """The release of a job that Slurm holds after a failed launch."""


@dataclass(frozen=True)
class LiftHold(JobAction):
    """The end of a requeued job's wait for its begin time."""

    token: str
    restart_count: int


@dataclass(frozen=True)
class Extend(JobAction):
    """A longer time limit, `minutes`, for a job that waits, because the last limit was too short."""

    minutes: int


@dataclass(frozen=True)
class AvoidNode:
    """A node for the list of those that the study avoids; `reason` is in words."""

    node: str
    run_id: str
    reason: str


Action: TypeAlias = (
    SaveAttempt | SetRun | Reserve | GiveBack | Submit | RecordEvent | Adopt | MemberAction | JobAction | AvoidNode
)
