"""The rows of runs.db as other rooms see them. Times are seconds since the epoch, FLOPs are integers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lvjobs.study.words import Cause, RunState


@dataclass(frozen=True)
class Run:
    """One training. `resources` and `environment` are what its next submission asks for.

    `step_flops` and `validation_flops` are the cost of one training step and one validation window, fixed at submit.
    `not_before` is when a back-off ends. `forgiven_until` is the attempt (its row id) up to which deaths no longer
    count, moved on when the user takes up a held run.
    """

    id: str
    name: str
    stage: str
    fingerprint: str
    config: Mapping[str, Any]
    profile: str
    resources: Mapping[str, Any]
    code: str
    created: float
    ordinal: int = 0
    state: RunState = RunState.PLANNED
    cause: Cause | None = None
    reason: str = ""
    not_before: float = 0.0
    forgiven_until: int = 0
    step_flops: int = 0
    validation_flops: int = 0

    @property
    def steps(self) -> int:
        """How many steps make the run complete."""
        return int(self.config["steps"])


@dataclass(frozen=True)
class Attempt:
    """One execution of a run, and what its journal said up to byte `journal_offset`.

    `generation` is None for an execution that died before it claimed one. `grown` is when a pass last saw the journal
    grow, on the passes' clock. `cause` None means that it goes on. `executed` counts step lines; `step` is the last.
    `resumed_from` is the step, and `resumed_generation` the generation, of the checkpoint it began from (0: nothing).
    `untrained_loss` is the validation at step 0, where there was one.
    """

    id: int
    run_id: str
    token: str
    job_id: str
    restart_count: int
    started: float
    generation: int | None = None
    host: str = ""
    ended: float | None = None
    cause: Cause | None = None
    evidence: str = ""
    resumed_from: int = 0
    resumed_generation: int = 0
    step: int = 0
    executed: int = 0
    checkpoint_step: int = 0
    loss: float | None = None
    untrained_loss: float | None = None
    validation_loss: float | None = None
    validation_step: int | None = None
    validation_windows: int = 0
    signal: str = ""
    leave_cause: str = ""
    leave_action: str = ""
    error: str = ""
    traceback: str = ""
    finished: bool = False
    journal_offset: int = 0
    grown: float = 0.0

    @property
    def gained(self) -> bool:
        """Whether it left the run a newer checkpoint than it began from."""
        return self.checkpoint_step > self.resumed_from


@dataclass(frozen=True)
class Submission:
    """One sbatch, of a job or of an array with `size` members.

    `job_id` is None until sbatch's answer is known (or its job was found by the token).
    """

    token: str
    profile: str
    backend: str
    created: float
    size: int = 1
    job_id: str | None = None

    def job_of(self, member: int) -> str | None:
        """What scancel takes for a member: the job's id, or the array's with the task's index."""
        return self.job_id if self.job_id is None or self.size == 1 else f"{self.job_id}_{member}"


@dataclass(frozen=True)
class Member:
    """A run's place in a submission: `live`, `revoked` (its job must not train, and is cancelled) or `settled`.

    `missing_since` is when passes began to find its job nowhere; `hold_lifted` the restart count for which the requeue
    hold was lifted (once each).
    """

    token: str
    member: int
    run_id: str
    state: str = "live"
    missing_since: float | None = None
    hold_lifted: int = -1


@dataclass(frozen=True)
class Event:
    """Something a pass or a command did, in words."""

    time: float
    kind: str
    text: str
    run_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Charge:
    """What one attempt spent on one kind of work: `useful`, `replayed` or `validation`; steps (or windows) x FLOPs."""

    run_id: str
    attempt_id: int
    kind: str
    steps: int
    flops_per_step: int

    @property
    def flops(self) -> int:
        """Exact: Python integers."""
        return self.steps * self.flops_per_step
