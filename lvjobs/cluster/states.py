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
    "Priority": "other jobs come first",
    "Resources": "it is next, as soon as what it asks for is free",
    "None": "the scheduler has not looked at it yet",
    "BeginTime": "it may not begin yet: Slurm holds a requeued job back for a while",
    "Dependency": "it waits for another job to end",
    "DependencyNeverSatisfied": "the job that it waits for can no longer end as it has to: it never starts",
    "JobArrayTaskLimit": "as many members of its array run as max_parallel allows",
    "JobHeldUser": "Slurm holds the job for its user",
    "JobHeldAdmin": "an administrator holds it; ask the site",
    "launch failed requeued held": "its node could not start it, and Slurm holds it",
    "user env retrieval failed requeued held": "its node could not read your login environment, and Slurm holds it",
    "launch failure limit exceeded requeued held": "it was requeued too often, and Slurm holds it",
    "Licenses": "a licence that it asks for is in use",
    "Reservation": "it waits for its reservation to begin",
    "ReservationDeleted": "the reservation that it names is no more",
    "ReqNodeNotAvail": "a node that it needs is down, drained or kept for a maintenance",
    "NodeDown": "a node that it needs is down",
    "Nodes required for job are DOWN": "the nodes that it could use are down, drained or kept for others",
    "PartitionDown": "its partition starts no jobs at the moment",
    "PartitionInactive": "its partition takes no jobs at the moment",
    "PartitionTimeLimit": "its time limit is over the partition's: it never starts; ask for less time",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows: it never starts",
    "PartitionConfig": "it asks for what its partition does not have: it never starts",
    "BadConstraints": "no node has what it asks for: it never starts",
    "InvalidAccount": "its account is no longer valid: it never starts",
    "InvalidQOS": "its QOS is no longer valid: it never starts",
    "AccountNotAllowed": "its partition does not take this account: it never starts",
    "QOSNotAllowed": "its partition does not take this QOS: it never starts",
    "QOSTimeLimit": "its QOS has used up its time",
    "QOSUsageThreshold": "its account's usage is under what the QOS asks for",
    "MaxRequeueExceeded": "it was requeued too often",
    "JobHoldMaxRequeue": "it was requeued too often, and is held",
    "Cleaning": "what its last execution left is being cleaned up",
    "Prolog": "its node is being prepared",
    "SchedDefer": "the scheduler leaves new jobs for later",
    "FedJobLock": "its clusters have not agreed yet who runs it",
    "BurstBufferResources": "the burst buffer is full",
    "BurstBufferStageIn": "its files are being brought to the burst buffer",
    "AssociationJobLimit": "your account runs as many jobs as it may",
    "AssociationResourceLimit": "your account uses as much as it may",
    "AssociationTimeLimit": "your account has used up its time",
    "QOSJobLimit": "as many jobs run in its QOS as may",
    "QOSResourceLimit": "as much is used in its QOS as may be",
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
    ("minutes", "time times what is used"),
    ("mins", "time times what is used"),
    ("gres", "GPUs"),
    ("cpu", "cores"),
    ("node", "nodes"),
    ("mem", "memory"),
    ("billing", "what is billed"),
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
        words = "its reservation was deleted, and Slurm holds it"
    if job_id and (_DELETED.match(code) or code == _RELEASED_BY_ITS_USER):
        words += f"; to let it start, type: {remedies.SCONTROL_RELEASE(job=job_id)}"
    return f"{words} ({reason.strip('()')})" if words else reason


def _limit(code: str) -> str:
    match = _LIMIT.match(code)
    if match is None:
        return ""
    what = next((words for key, words in _WHAT if key in match["what"].lower()), match["what"])
    if match["kind"] == "Min":
        return f"it asks for less than {_OF[match['of']]} allows ({what}): it never starts"
    whom = _EACH.get(match["each"] or "", "all together" if match["kind"] == "Grp" else "one user")
    if match["each"] in ("PerJob", "PerNode"):
        return f"it asks for more than {_OF[match['of']]} allows {whom} ({what}): it never starts"
    return f"{_OF[match['of']]} allows {whom} no more at once ({what})"


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
        number = "" if self.priority is None else f" (its priority is {self.priority})"
        others = f"{self.ahead} of {self.waiting - 1} others come first"
        if self.ahead == 0:
            others = "no other job waits" if self.waiting == 1 else f"none of {self.waiting - 1} others comes first"
        return f"in partition {self.partition}, {others}{number}"
