"""The states of jobs and the reasons why they wait: the values that lvjobs acts on, and words for people."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from lvjobs import remedies

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
    """The reasons for waiting on which lvjobs acts. `explain` has words for all reasons."""

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


@lru_cache(256)  # many jobs wait for the same reason
def parse_hold(reason: str) -> JobHold:
    """Return the value of squeue's reason, in any of its spellings (`launch_failed_requeued_held`)."""
    text = reason.lower().replace("_", " ")
    known = _HOLDS.get(reason, JobHold.NONE)
    return next((hold for words, hold in _REQUEUE_HOLDS.items() if words in text), known)


_WORDS = {
    "Priority": "other jobs have a higher priority",
    "Resources": "next in line, waiting for resources",
    "None": "not yet considered by the scheduler",
    "BeginTime": "requeued; Slurm delays the restart",
    "Dependency": "waiting for another job to end",
    "DependencyNeverSatisfied": "the job that it depends on failed: it never starts",
    "JobArrayTaskLimit": "max_parallel members of its array are running",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator; ask the site",
    "launch failed requeued held": "held by Slurm: its node could not start it",
    "user env retrieval failed requeued held": "held by Slurm: its node could not read your login environment",
    "launch failure limit exceeded requeued held": "held by Slurm: requeued too often",
    "Licenses": "waiting for a licence",
    "Reservation": "waiting for its reservation to begin",
    "ReservationDeleted": "its reservation no longer exists",
    "ReqNodeNotAvail": "a required node is down, drained or reserved for maintenance",
    "NodeDown": "a required node is down",
    "Nodes required for job are DOWN": "all suitable nodes are down, drained or reserved",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "PartitionTimeLimit": "its time limit exceeds the partition's: it never starts; request less time",
    "PartitionNodeLimit": "it requests more nodes than the partition allows: it never starts",
    "PartitionConfig": "it requests what its partition does not have: it never starts",
    "BadConstraints": "no node has what it requests: it never starts",
    "InvalidAccount": "its account is no longer valid: it never starts",
    "InvalidQOS": "its QOS is no longer valid: it never starts",
    "AccountNotAllowed": "its partition does not take this account: it never starts",
    "QOSNotAllowed": "its partition does not take this QOS: it never starts",
    "QOSTimeLimit": "the time limit of its QOS is used up",
    "QOSUsageThreshold": "its account uses too little for this QOS",
    "MaxRequeueExceeded": "requeued too often",
    "JobHoldMaxRequeue": "held: requeued too often",
    "Cleaning": "the node cleans up after its last execution",
    "Prolog": "the node is being prepared",
    "SchedDefer": "the scheduler defers new jobs",
    "FedJobLock": "the federation has not chosen a cluster yet",
    "BurstBufferResources": "the burst buffer is full",
    "BurstBufferStageIn": "its files are being copied to the burst buffer",
    "AssociationJobLimit": "your account is at its limit of running jobs",
    "AssociationResourceLimit": "your account is at its resource limit",
    "AssociationTimeLimit": "the time limit of your account is used up",
    "QOSJobLimit": "its QOS is at its limit of running jobs",
    "QOSResourceLimit": "its QOS is at its resource limit",
}

# QOSMaxJobsPerUserLimit, AssocGrpGRES, AssocMaxWallDurationPerJobLimit, MaxGRESPerAccount and so on
_LIMIT = re.compile(
    r"(?P<of>QOS|Assoc)?(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]+?)"
    r"(?P<each>Per(?:User|Account|Job|Node))?(?:Limit)?\Z"
)
_DELETED = re.compile(r"Reservation .+ was deleted\Z")
_OF = {"QOS": "its QOS", "Assoc": "its account", None: "the site"}
_WHAT = (
    ("submit", "jobs in the queue"),
    ("jobs", "running jobs"),
    ("wall", "time"),
    ("minutes", "resource time"),
    ("mins", "resource time"),
    ("gres", "GPUs"),
    ("cpu", "cores"),
    ("node", "nodes"),
    ("mem", "memory"),
    ("billing", "billing units"),
    ("energy", "energy"),
    ("license", "licences"),
)
_EACH = {"PerUser": "one user", "PerAccount": "one account", "PerJob": "one job", "PerNode": "one node"}


_RELEASED_BY_ITS_USER = "JobHeldUser"


def explain(reason: str, job_id: str = "") -> str:
    """Return the reason in words, followed by Slurm's own code; an unknown reason is returned as it is.

    With a `job_id`, the text names the command that starts a job that Slurm holds until its user releases it.
    """
    code = reason.partition(",")[0].strip().strip("()").replace("_", " ")
    words = _WORDS.get(code) or _WORDS.get(code.replace(" ", "")) or _limit(code)
    if _DELETED.match(code):
        words = "held by Slurm: its reservation was deleted"
    if job_id and (_DELETED.match(code) or code == _RELEASED_BY_ITS_USER):
        words += f"; to release it, type: {remedies.SCONTROL_RELEASE(job=job_id)}"
    return f"{words} ({reason.strip('()')})" if words else reason


def _limit(code: str) -> str:
    match = _LIMIT.match(code)
    if match is None:
        return ""
    what = next((words for key, words in _WHAT if key in match["what"].lower()), match["what"])
    if match["kind"] == "Min":
        return f"it requests less than {_OF[match['of']]} allows ({what}): it never starts"
    whom = _EACH.get(match["each"] or "", "all jobs together" if match["kind"] == "Grp" else "one user")
    if match["each"] in ("PerJob", "PerNode"):
        return f"it requests more than {_OF[match['of']]} allows {whom} ({what}): it never starts"
    return f"{_OF[match['of']]} is at its limit for {whom} ({what})"


@dataclass(frozen=True)
class QueuePosition:
    """The position of a waiting job among all that wait in its partition, as far as the user may see them.

    `priority` is the scheduler's number (None where it has none), `ahead` the number of jobs with a higher one.
    """

    partition: str
    priority: int | None
    ahead: int
    waiting: int

    @property
    def words(self) -> str:
        """Return the position in one sentence."""
        number = "" if self.priority is None else f" (priority {self.priority})"
        place = f"{self.ahead + 1}" if self.ahead else "first"
        jobs = "the only pending job" if self.waiting == 1 else f"{place} of {self.waiting} pending jobs"
        return f"{jobs} in partition {self.partition}{number}"
