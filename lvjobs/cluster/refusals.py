"""The meaning of sbatch's error messages: never a job, no job yet, or unknown. Pure."""

import re

from lvjobs.cluster.protocol import ClusterError, SubmitDeferred, SubmitLimited, SubmitRefused, SubmitUnclear

_TIMED_OUT = frozenset({124, 137})
"""`timeout` ended sbatch, by SIGTERM or by SIGKILL: it is unknown whether sbatch had sent its message."""

_NOT_FOUND = frozenset({126, 127})
"""No sbatch could be run. That concerns this host, not the job."""

# The message may have reached the controller, and the job may exist. It did, 2 of 2 times, with the first of these.
_UNCLEAR = re.compile(
    r"timed out|zero bytes were transmitted|unexpected message|header lengths|insane message|connection reset"
    r"|broken pipe|transport endpoint|communications? (?:connection )?failure",
    re.IGNORECASE,
)

# No job exists, because there are too many: wait for other jobs to end, or submit fewer.
_LIMITED = re.compile(r"maxsubmit|grpsubmit|maxjobs|grpjobs|submit limit", re.IGNORECASE)

# No job exists: wait for the controller, or a drained partition, to come back.
_DEFERRED = re.compile(
    r"partition not available \(inactive or drain\)|unable to contact slurm controller|controller not responding"
    r"|standby mode|temporarily unable|resource temporarily unavailable|submissions? (?:is |are )?(?:temporarily )?disa"
    r"|could not establish a configuration source|unable to (?:open|stat|process) (?:\S+ )?\S*slurm\.conf",
    re.IGNORECASE,
)

# An account that may never have such a job gets the same sentence as one that may have it later.
_NEVER = re.compile(
    r"(?:max|min|grp)(?:wall|gres|cpu|node|mem|tres|billing|grp)\w*(?:limit|perjob|peruser|peraccount)", re.IGNORECASE
)

# The refusals of slurm_errno.c and of sbatch itself. Any other text is unclear: that costs one lookup and no job.
_REFUSED = re.compile(
    r"\binvalid\b|not available|not permitted|not allowed|denied|violates|unspecified error|unrecognized option"
    r"|requires an argument|ambiguous|can not be satisfied|cannot be satisfied|unable to open file|must be|required"
    r"|exceeds|larger than|too (?:large|long|many|big)|not supported|does not exist|in wrong state|unable to allocate"
    r"|group(?:s)? (?:can|may) ?not|no partition|no such|bad (?:argument|constraint)|expired|not defined"
    r"|script (?:is )?empty|dependency problem|does not (?:have|appear)|ill-formed"
    r"|dos line breaks|pathname of a file",
    re.IGNORECASE,
)


def classify_sbatch_error(text: str, returncode: int) -> type[ClusterError]:
    """Return which of SubmitRefused, SubmitLimited, SubmitDeferred and SubmitUnclear a failed sbatch is.

    `returncode` is that of `timeout ... sbatch`. In doubt the result is unclear: the token is then looked up before
    anything is tried again, and no job is submitted twice.
    """
    if returncode in _TIMED_OUT or returncode < 0 or _UNCLEAR.search(text):
        return SubmitUnclear
    if returncode in _NOT_FOUND:
        return SubmitDeferred
    if _LIMITED.search(text) and not _NEVER.search(text):
        return SubmitLimited
    if _DEFERRED.search(text):
        return SubmitDeferred
    if _REFUSED.search(text):
        return SubmitRefused
    return SubmitUnclear
