"""The words for the states of runs and the causes of ended attempts. One word per thing, everywhere."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

BudgetConvention: TypeAlias = Literal["official", "exact", "published-formula"]
"""The FLOP conventions that a budget may use; `lvjobs.flops.conventions` counts by them."""

FORMER_CONVENTIONS: Mapping[str, str] = MappingProxyType({"report": "published-formula"})
"""FLOP conventions by their names in earlier releases; ledgers and study.toml may still use these."""


class RunState(str, Enum):
    """The state of a run."""

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
        """Return whether nothing more will happen to the run."""
        return self in (RunState.COMPLETED, RunState.CANCELLED)

    @property
    def is_at_rest(self) -> bool:
        """Return whether nothing more will happen to the run by itself: it is over, or waits for a decision."""
        return self.is_final or self in (RunState.HELD, RunState.PAUSED)


class StageState(str, Enum):
    """The state of a stage: only declared, requested and waiting, running, held until the user decides, completed."""

    DECLARED = "declared"
    ASKED = "asked"
    RUNNING = "running"
    HELD = "held"
    COMPLETED = "completed"


class Cause(str, Enum):
    """The cause of an attempt's end."""

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
    """The reason for which a held or paused run waits, where it is not only the user's decision."""

    NOTHING = ""
    BUDGET = "budget"  # FLOPs: the run resumes by itself once they are free
    REPLAYS = "replays"  # the user: the run may have only one reservation, and used it up
    STOPPED = "stopped"  # its stage, because that was stopped
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
    """The cause that a worker writes to its journal when it stops early."""

    NONE = ""
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    EXHAUSTED = "exhausted"
    UNKNOWN = "unknown"  # Slurm gave no answer, and scancel's signal is the same as a preemption's

    @classmethod
    def _missing_(cls, _value: object) -> "LeaveCause":
        return cls.UNKNOWN


class Breakdown(str, Enum):
    """A failure of an attempt that is not its code's fault, as its journal records it."""

    NONE = ""
    PROCESS = "process"  # the process ended without a closing line, in a job that other runs share
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
