"""What sbatch's complaints mean: no job and never one, no job yet, or nobody knows. Pure."""

import re

from lvjobs.cluster.protocol import ClusterError, SubmitDeferred, SubmitLimited, SubmitRefused, SubmitUnclear

_TIMED_OUT = frozenset({124, 137})
"""`timeout` ended sbatch, by SIGTERM or by SIGKILL: whether its message had gone out is unknown."""

_NOT_FOUND = frozenset({126, 127})
"""There is no sbatch that could be run: which says something of this host, and nothing of what the site takes."""

# The message may have reached the controller, and the job may exist: it did, 2 of 2, with the first of these.
_UNCLEAR = re.compile(
    r"timed out|zero bytes were transmitted|unexpected message|header lengths|insane message|connection reset"
    r"|broken pipe|transport endpoint|communications? (?:connection )?failure",
    re.IGNORECASE,
)

# No job exists, for there are too many: it is a matter of waiting for other jobs to end, or of sending fewer.
_LIMITED = re.compile(r"maxsubmit|grpsubmit|maxjobs|grpjobs|submit limit", re.IGNORECASE)

# No job exists. It is a matter of waiting for the controller, or a drained partition, to come back.
_DEFERRED = re.compile(
    r"partition not available \(inactive or drain\)|unable to contact slurm controller|controller not responding"
    r"|standby mode|temporarily unable|resource temporarily unavailable|submissions? (?:is |are )?(?:temporarily )?disa"
    r"|could not establish a configuration source|unable to (?:open|stat|process) (?:\S+ )?\S*slurm\.conf",
    re.IGNORECASE,
)

# An account that may never have such a job is told so with the same sentence as one that may have it tomorrow.
_NEVER = re.compile(
    r"(?:max|min|grp)(?:wall|gres|cpu|node|mem|tres|billing|grp)\w*(?:limit|perjob|peruser|peraccount)", re.IGNORECASE
)

# slurm_errno.c's and sbatch's own refusals. Whatever is not among them is unclear, which costs a look and no job.
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
    """Which of SubmitRefused, SubmitLimited, SubmitDeferred and SubmitUnclear a failed sbatch is.

    `returncode` is that of `timeout ... sbatch`. When in doubt it is unclear: the token is then looked up before
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
