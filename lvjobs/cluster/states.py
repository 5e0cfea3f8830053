"""The states of jobs and the reasons why they wait, in Slurm's words, and as the values that lvjobs acts on."""

from enum import Enum, auto

ENDED_STATES = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""The states that end a job. The list is complete. The states of live jobs grow with Slurm's releases (RESV_DEL_HOLD,
POWER_UP_NODE, EXPEDITING, REVOKED), so a state in no list is one of a live job.
"""

PENDING_STATES = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
ACTIVE_STATES = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"}
)
SUSPENDED_STATES = frozenset({"SUSPENDED", "STOPPED"})

SOON_SECONDS = 2
"""The seconds from now to which a lifted hold is set. A start at once can revoke the credential of a job that has just
left its node ("Job credential revoked"); a start after 1 s never did.
"""

MARGIN_SECONDS = 10.0
"""Seconds. A hold that ends sooner is left alone: lifting it would only delay the start."""


class Ending(Enum):
    """The end of an execution of a job, as far as its state proves it."""

    CANCELLED = auto()
    NODE_FAILED = auto()
    OUT_OF_MEMORY = auto()
    PREEMPTED = auto()
    REQUEUED = auto()  # accounting's word for an earlier execution of a job that was put back in the queue
    TIMED_OUT = auto()
    OTHER = auto()


ENDINGS = {
    "BOOT_FAIL": Ending.NODE_FAILED,
    "CANCELLED": Ending.CANCELLED,
    "DEADLINE": Ending.TIMED_OUT,
    "NODE_FAIL": Ending.NODE_FAILED,
    "OUT_OF_MEMORY": Ending.OUT_OF_MEMORY,
    "PREEMPTED": Ending.PREEMPTED,
    "REQUEUED": Ending.REQUEUED,
    "TIMEOUT": Ending.TIMED_OUT,
}


class JobHold(Enum):
    """The reasons for waiting on which lvjobs acts. `lvjobs.cluster.reasons` has words for all reasons."""

    NONE = auto()
    BEGIN_TIME = auto()  # Slurm holds a requeued job for a while
    DEPENDENCY = auto()
    LAUNCH_FAILED = auto()  # its node could not start it, and Slurm holds it until somebody releases it
    REQUEUED_TOO_OFTEN = auto()  # from the fifth time on, unless the site set another number
    NO_PLACE = auto()  # its partition, account or QOS starts no such job

    @property
    def needs_release(self) -> bool:
        """Return whether the job waits, after a requeue, until somebody releases it."""
        return self in (JobHold.LAUNCH_FAILED, JobHold.REQUEUED_TOO_OFTEN)


_HOLDS = {
    "BeginTime": JobHold.BEGIN_TIME,
    "Dependency": JobHold.DEPENDENCY,
    "JobHoldMaxRequeue": JobHold.REQUEUED_TOO_OFTEN,
    **dict.fromkeys(("AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS"), JobHold.NO_PLACE),
    **dict.fromkeys(("PartitionConfig", "PartitionDown", "PartitionInactive", "PartitionNodeLimit"), JobHold.NO_PLACE),
    **dict.fromkeys(("PartitionTimeLimit", "QOSNotAllowed"), JobHold.NO_PLACE),
}
_REQUEUE_HOLDS = {
    "limit exceeded requeued held": JobHold.REQUEUED_TOO_OFTEN,
    "requeued held": JobHold.LAUNCH_FAILED,  # "launch failed ...", "user env retrieval failed ..."
}


def parse_hold(reason: str) -> JobHold:
    """Return the value of squeue's reason, in any of its spellings (`launch_failed_requeued_held`)."""
    text = reason.lower().replace("_", " ")
    known = _HOLDS.get(reason, JobHold.NONE)
    return next((hold for words, hold in _REQUEUE_HOLDS.items() if words in text), known)
