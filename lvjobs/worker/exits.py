"""A worker's exit codes."""

DONE = 0
"""Done, or nothing to do."""

ERROR = 1

LEFT = 75
"""Left, and to be continued (EX_TEMPFAIL)."""

WANTS_REQUEUE = 76
"""Of a run that shares its job: left, and the job should be put back in the queue once all of its runs have left."""

INTERRUPTED = 130
