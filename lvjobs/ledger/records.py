"""The rows of runs.db as other packages see them. Times are seconds since the epoch, FLOPs are integers."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from functools import cached_property
from operator import add
from typing import Any

from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.study.words import Breakdown, Cause, HeldFor, LeaveCause, MemberState, RunState, StageState


@dataclass(frozen=True)
class RunRecord:
    """One run. `profile` and `resources` are what its next submission requests.

    `typed` is what the user typed over study.toml when it was last submitted or resumed (`lvjobs.study.config`).
    `declared` holds the values of `config` that the run was declared with and that were changed since: the fingerprint
    is computed from these.

    `rates` (convention -> kind of work -> FLOPs a unit, see `WorkCounts`) are fixed when the run is declared; empty for
    a task that declares no cost. `after` is the id of the run that has to be completed first, empty for none.

    `not_before` is when a back-off ends. `forgiven_until` is the attempt (its row id) up to which failures no longer
    count; it increases when the user resumes a held run. `stop_at` is the step at which the run stops, until its stage
    has compared all runs there; 0: it goes to its last step. `profile_copy` is the hash under which the study keeps the
    profile's file as it was last submitted; empty for a profile that has a name, and for runs of an older release.
    `tags` are the user's, sorted.
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
    rates: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    held_for: HeldFor = HeldFor.NOTHING
    after: str = ""
    typed: Mapping[str, list[Any]] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    profile_copy: str = ""
    stop_at: int = 0
    tags: list[str] = field(default_factory=list)

    @property
    def submitted_by(self) -> str:
        """Return the profile as it was last submitted: the hash of its copy, or else its name or file."""
        return self.profile_copy or self.profile

    @cached_property
    def configuration(self) -> RunConfig:
        """Return `config` as a `RunConfig`. It is parsed on first use: most runs of a pass do not need it."""
        return RunConfig.model_validate(self.config)

    @property
    def params(self) -> Mapping[str, Any]:
        """Return the settings of the run's task."""
        params: Mapping[str, Any] = self.config.get("params", {})
        return params

    @property
    def steps(self) -> int:
        """Return how many steps make the run complete."""
        return int(self.config["steps"])

    @property
    def checkpoint_every(self) -> int:
        """Return the steps between two checkpoints: the most steps that one failure can cost."""
        return int(self.config.get("checkpoint_every", self.steps))


@dataclass(frozen=True)
class WorkCounts:
    """The counted work that costs FLOPs: training steps, validation windows, and series that are forecast.

    `gpu_seconds` is the time for which the run's jobs hold GPUs, times their number. It is 0 where the study has no
    limit of GPU-hours.
    """

    training: int = 0
    validation: int = 0
    generation: int = 0
    gpu_seconds: int = 0

    def __add__(self, other: "WorkCounts") -> "WorkCounts":
        return WorkCounts(*map(add, astuple(self), astuple(other)))

    def beyond(self, other: "WorkCounts") -> "WorkCounts":
        """Return the part of this that `other` does not cover, for each kind of work."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return WorkCounts(*(max(0, mine - covered) for mine, covered in pairs))


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt of a run, and what its journal contains up to byte `journal_offset`.

    `generation` is None for an attempt that ended before it claimed one. `grown` is when its journal last grew, as far
    as passes can tell (`lvjobs.control.reconcile.hang`). `cause` None means that it continues. `executed` counts step
    lines; `step` is the last one.

    `resumed_from` is the step, and `resumed_generation` the generation, of the checkpoint it resumed from (0: none).

    Losses are those of the run's own objective (`Task.loss_name`). No field names the objective, and losses of two runs
    compare only where it is the same. `untrained_loss` is the validation at step 0, where there was one.
    `validation_windows` and `generated` (series forecast) count work as `executed` does. `train_seconds`,
    `validation_seconds` and `checkpoint_seconds` are the durations in the journal; `checkpoint_bytes` is the last
    checkpoint's size. `allocated_seconds` and `gpus` are what the execution held according to accounting, None where it
    reported none; where `sharing` runs shared it (a pack), each has an equal part of the seconds. `failed_node` is the
    node of a device that failed, empty where Slurm has no name for the node; `error` has the device's error.
    `exit_status` is that of a process that broke down, None where it is not known. `curve` is the course of the
    training loss in a few means (`lvjobs.records.sketch`). `checkpoint_every` is its checkpoint interval, in steps,
    None where its journal does not have it.
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
    leave_cause: LeaveCause = LeaveCause.NONE
    leave_action: str = ""
    error: str = ""
    traceback: str = ""
    finished: bool = False
    journal_offset: int = 0
    grown: float = 0.0
    generated: int = 0
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    allocated_seconds: float | None = None
    gpus: int | None = None
    sharing: int = 1
    died: Breakdown = Breakdown.NONE
    failed_node: str = ""
    exit_status: int | None = None
    curve: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: int | None = None

    @property
    def execution(self) -> tuple[str, int]:
        """Return the execution that it belongs to: two attempts share one where a launch failed first.

        An execution is named by the submission's token and the job's restart count.
        """
        return self.token, self.restart_count

    @property
    def has_started(self) -> bool:
        """Return whether its journal has a line: the first line names the checkpoint that the attempt resumed from."""
        return self.journal_offset > 0

    @property
    def is_over(self) -> bool:
        """Return whether its process is known to have ended, or to end soon."""
        return self.has_last_word or bool(self.died)

    @property
    def has_last_word(self) -> bool:
        """Return whether its journal ends with a worker's closing line, so that no executed step can be missing."""
        return bool(self.leave_cause or self.error or self.finished)

    @property
    def gained(self) -> bool:
        """Return whether it left the run a newer checkpoint than the one it resumed from."""
        return self.checkpoint_step > self.resumed_from


@dataclass(frozen=True)
class SubmissionRecord:
    """One sbatch, of a job or of an array with `size` members, or `packed`: of one job that `size` runs share.

    `job_id` is None until sbatch's answer is known (or its job was found by the token).
    """

    token: str
    profile: str
    backend: str
    created: float
    size: int = 1
    job_id: str | None = None
    packed: bool = False

    def job_of(self, member: int) -> str | None:
        """Return the id that scancel takes for a member: the job's id, or the array's with the task's index."""
        is_job = self.job_id is None or self.size == 1 or self.packed
        return self.job_id if is_job else f"{self.job_id}_{member}"


@dataclass(frozen=True)
class Member:
    """A run's place in a submission.

    `missing_since` is when passes first found its job neither in the queue nor in accounting; `hold_lifted` is the
    restart count for which the requeue hold was lifted (once each).
    """

    token: str
    member: int
    run_id: str
    state: MemberState = MemberState.LIVE
    missing_since: float | None = None
    hold_lifted: int = -1


@dataclass(frozen=True)
class Event:
    """An action of a pass or of a command, in words.

    `attempt_id` is set where the event is the end of that attempt; `text` then has the consequence.
    """

    time: float
    kind: str
    text: str
    run_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    attempt_id: int | None = None


@dataclass(frozen=True)
class Charge:
    """The work of one kind that one attempt executed.

    `units` are steps (kinds `useful` and `replayed`), windows (`validation`) or series (`generation`). `estimated` of
    them are in no journal: the most that a failed node may have executed unseen.
    """

    run_id: str
    attempt_id: int
    kind: str
    units: int
    estimated: int = 0


@dataclass(frozen=True)
class StageRecord:
    """A stage as study.toml declares it, or, once it was requested, as it was declared then.

    `request` is the request for it (see `lvjobs.sweep.request`). `winner` is the id of the run whose settings later
    stages take over, `because` the reason; `by_hand`: the user chose it.
    """

    name: str
    ordinal: int
    definition: Mapping[str, Any]
    state: StageState = StageState.DECLARED
    request: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    winner: str = ""
    because: str = ""
    by_hand: bool = False

    @cached_property
    def stage(self) -> Stage:
        """Return `definition` as a `Stage`."""
        return Stage.model_validate(self.definition)


@dataclass(frozen=True)
class Closed:
    """The result of a run that is over: no other row of it is read until something of it changes.

    `row` is its row of the summary, `tally` its contribution to sums (`lvjobs.control.budget.archive`); both are JSON.
    """

    run_id: str
    row: str
    tally: str
