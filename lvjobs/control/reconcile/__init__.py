"""One reconcile pass over the runs: observe, decide, act.

`observe` reads the scheduler and the run directories into `views`. `journal_fold` adds a journal's new lines to an
attempt. `classify` finds the cause of an ended attempt, `policy` decides what follows from each cause, and `attempts`
applies that to the run. `decide` returns the `actions` for a run, and `gate` refuses those that the budget does not
allow.
`act` carries them out. `hang` measures how long a job has been without a heartbeat, although clocks may jump.
`waiting_jobs` updates the nodes that queued jobs avoid. `run_commands` cancels, pauses and resumes existing
runs, and `labels` keeps the user's tags and notes. All modules are pure, except `observe`, `act` and the last three.

A new cause of failure is a line of `policy`, its word in `lvjobs.study.words`, and what shows it: in `classify` if that
is Slurm, in `lvjobs.records.failure` if it is an error of the training code.
"""
