"""The states of jobs, in Slurm's words."""

ENDED_STATES = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""The states that end a job. The list is complete; those of live jobs grow with Slurm's releases (RESV_DEL_HOLD,
POWER_UP_NODE, EXPEDITING, REVOKED), so that a state in no list is one of a live job."""

PENDING_STATES = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
ACTIVE_STATES = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"}
)
SUSPENDED_STATES = frozenset({"SUSPENDED", "STOPPED"})
