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


class _OpenEnum(str, Enum):
    """Words to which another release may have added some: such a word counts as the first."""

    @classmethod
    def _missing_(cls, _value: object) -> "_OpenEnum":
        return next(iter(cls))


class HeldFor(_OpenEnum):
    """The reason for which a held or paused run waits, where it is not only the user's decision."""

    NOTHING = ""  # also a word of another release: the user decides
    BUDGET = "budget"  # FLOPs: the run resumes by itself once they are free
    REPLAYS = "replays"  # the user: the run may have only one reservation, and used it up
    STOPPED = "stopped"  # its stage, because that was stopped
    RUNG = "rung"  # its stage, until the other runs have come as far
    PRUNED = "pruned"  # other runs of its stage, or of the stage of the run that it follows, are better


class MemberState(_OpenEnum):
    """The state of a run's place in a submission."""

    LIVE = "live"  # also a word of another release: a second submission of the run would be worse than none
    REVOKED = "revoked"  # its job must not train the run, and is cancelled
    SETTLED = "settled"


class LeaveCause(_OpenEnum):
    """The cause that a worker writes to its journal when it stops early."""

    UNKNOWN = "unknown"  # Slurm gave no answer, and scancel's signal is the same as a preemption's
    NONE = ""
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    EXHAUSTED = "exhausted"
    RUNG = "rung"


class Breakdown(_OpenEnum):
    """A failure of an attempt that is not its code's fault, as its journal records it."""

    PROCESS = "process"  # the process ended without a closing line, in a job that other runs share
    NONE = ""
    DEVICE = "device"


class SubmitOutcome(str, Enum):
    """The outcome of a submission."""

    SUBMITTED = "submitted"
    PLANNED = "planned"
    LIMITED = "limited"
    DEFERRED = "deferred"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    OVER_BUDGET = "over_budget"


CHARGE_LABELS = {"useful": "useful", "replayed": "repeated", "validation": "validation", "generation": "generation"}
"""The kinds of charge, as tables and figures name them."""
