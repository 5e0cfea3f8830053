"""The words for how runs stand and why attempts end. One word per thing, everywhere."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

FORMER_CONVENTIONS: Mapping[str, str] = MappingProxyType({"report": "published-formula"})
"""FLOP conventions by the names that earlier releases had for them; ledgers and study.toml may still use these."""


class RunState(str, Enum):
    """How a run stands."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    HELD = "held"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the run."""
        return self in (RunState.COMPLETED, RunState.CANCELLED)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing more will happen to the run by itself: it is over, or waits for somebody's word."""
        return self.is_final or self in (RunState.HELD, RunState.PAUSED)


class StageState(str, Enum):
    """How a stage stands: only declared, asked for and waiting, running, held until the user decides, or completed."""

    DECLARED = "declared"
    ASKED = "asked"
    RUNNING = "running"
    HELD = "held"
    COMPLETED = "completed"


class Cause(str, Enum):
    """Why an attempt ended."""

    COMPLETED = "completed"
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    HUNG = "hung"
    CANCELLED = "cancelled"
    LAUNCH_FAILED = "launch_failed"
    CODE_ERROR = "code_error"
    LOST = "lost"


class HeldFor(str, Enum):
    """What a held or paused run waits for, where that is not the user alone."""

    NOTHING = ""
    BUDGET = "budget"  # FLOPs: the run resumes by itself once they are free
    REPLAYS = "replays"  # the user: the run may have one reservation only, and used it up
    STOPPED = "stopped"  # its stage, which was stopped
    PRUNED = "pruned"  # other runs of its stage, or of the stage of the run that it follows, are better

    @classmethod
    def _missing_(cls, _value: object) -> "HeldFor":
        return cls.NOTHING  # a word of another release: the user decides


class MemberState(str, Enum):
    """The state of a run's place in a submission."""

    LIVE = "live"
    REVOKED = "revoked"  # its job must not train the run, and is cancelled
    SETTLED = "settled"

    @classmethod
    def _missing_(cls, _value: object) -> "MemberState":
        return cls.LIVE  # a word of another release: a second submission of the run would be worse than none


class LeaveCause(str, Enum):
    """The cause that a worker gives in its journal when it leaves."""

    NONE = ""
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    EXHAUSTED = "exhausted"
    UNKNOWN = "unknown"  # Slurm gave no answer, and the signal of scancel is that of a preemption

    @classmethod
    def _missing_(cls, _value: object) -> "LeaveCause":
        return cls.UNKNOWN


class Breakdown(str, Enum):
    """A failure of an attempt that its code is not to blame for, as its journal has it."""

    NONE = ""
    PROCESS = "process"  # the process ended without a last word, in a job that other runs share
    DEVICE = "device"

    @classmethod
    def _missing_(cls, _value: object) -> "Breakdown":
        return cls.PROCESS


class SubmitOutcome(str, Enum):
    """The outcome of a submission."""

    SUBMITTED = "submitted"
    PLANNED = "planned"
    LIMITED = "limited"
    DEFERRED = "deferred"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    OVER_BUDGET = "over_budget"
