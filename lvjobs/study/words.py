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
