"""The exit codes of a worker."""

DONE = 0
"""Done, or nothing to do."""

ERROR = 1

EXITED_EARLY = 75
"""Stopped early, to be continued (EX_TEMPFAIL)."""

WANTS_REQUEUE = 76
"""Stopped early in a shared job: the job should be requeued once all of its runs have stopped."""

INTERRUPTED = 130
