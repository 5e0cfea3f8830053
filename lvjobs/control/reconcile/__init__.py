"""One reconcile pass over the runs: what was observed, what it means, what to do about it, and doing it.

`observe` reads the scheduler and the run directories into `views`; `packs` adds what runs that share a job must know
of each other. `journal_fold` adds a journal's new lines to an attempt; `attempts` holds those of a run. `classify`
gives an ended attempt its cause, `policy` says what follows from each cause, and `outcome` what follows for the run.
`decide` returns the `actions` for a run, and `gate` refuses those that the budget does not allow. `act` carries them
out. `hang` measures silence by clocks that may be set. `waiting_jobs` tells queued jobs which nodes to avoid.
`run_commands` has what a user may ask of existing runs: cancel, pause, resume. All but `observe`, `act` and the last
two is pure. A new cause of failure goes here.
"""
