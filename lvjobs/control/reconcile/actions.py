"""What a pass can decide to do. Each is idempotent: done twice, it is done once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lvjobs.control.reconcile.classify import Failure
from lvjobs.ledger.records import AttemptRecord, WorkCounts
from lvjobs.study.words import Cause, HeldFor, RunState


@dataclass(frozen=True)
class SaveAttempt:
    """Write what is known of an attempt now (a new one where its id is 0)."""

    attempt: AttemptRecord


@dataclass(frozen=True)
class SetRun:
    """Change a run's state and what stands beside it.

    `note` is an event, in words. `death`: it follows from this end of the run's latest attempt, and `note` says how.
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
        """Return what is reported of it: the end of the attempt, and the note."""
        return "; ".join(filter(None, (self.death.words if self.death else "", self.note)))


@dataclass(frozen=True)
class Reserve:
    """Let the run execute `work` in all, counted from its beginning."""

    run_id: str
    work: WorkCounts


@dataclass(frozen=True)
class GiveBack:
    """End the run's reservation: what it did not spend is free again."""

    run_id: str


@dataclass(frozen=True)
class Submit:
    """Submit the run: it has no live submission."""

    run_id: str


@dataclass(frozen=True)
class RecordEvent:
    """Say something of the run, in words: once, however many passes find it so."""

    run_id: str
    text: str


@dataclass(frozen=True)
class Adopt:
    """A job was found by its token: it is the submission's."""

    token: str
    job_id: str


@dataclass(frozen=True)
class MarkMissing:
    """Nobody knows the member's job (since `since`), or it was found again (None)."""

    token: str
    run_id: str
    since: float | None


@dataclass(frozen=True)
class Revoke:
    """The member's job may train this run no more, whenever it should start; it is cancelled where it exists."""

    token: str
    run_id: str


@dataclass(frozen=True)
class Settle:
    """The member's job is over: nothing more is expected of it. Its token is revoked all the same (phantom reruns)."""

    token: str
    run_id: str


@dataclass(frozen=True)
class CancelJob:
    """scancel."""

    job_id: str
    run_id: str
    backend: str


@dataclass(frozen=True)
class Release:
    """Release a job that Slurm holds after a failed launch."""

    job_id: str
    run_id: str
    backend: str


@dataclass(frozen=True)
class LiftHold:
    """Let a requeued job start before its begin time."""

    job_id: str
    run_id: str
    token: str
    restart_count: int
    backend: str


@dataclass(frozen=True)
class Extend:
    """Give a job that waits a longer time limit: the last was too short."""

    job_id: str
    run_id: str
    minutes: int
    backend: str


@dataclass(frozen=True)
class AvoidNode:
    """Put a node on the list of those that the study avoids; `reason` in words."""

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
