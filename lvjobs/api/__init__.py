"""The Python API: everything that a command can do, as typed functions. No click, no printing, no torch.

`study` has the class `Study`, which `import lvjobs` offers as `lvjobs.Study`; `view` has those of its methods that
start and end nothing, and estimates costs before anything is spent; `runs` has those that change existing runs, and
`stages` those that decide, retry and stop stages. The other modules do the work: `results` has the values that the
methods return; `select` finds the runs that a caller names or chooses; `updates` reconciles a study and waits for
runs, and `waiting` announces such waits; `settings` combines study.toml with the caller's arguments, and writes a new
study.toml; `program_study` writes one for a program, and `program_questions` has what it asks for; `submit` submits
runs, `continuation` prepares one that trains on from another, `sweep` submits stages, `evaluate` evaluations of models,
and `forecast` forecasts one series; `score_tables` has the tables of evaluations; `rehearse` kills a shortened run;
`material` gathers what `publish` draws, and `publish` writes reports, figures, exports and copies of runs.db; `pull`
lists and copies results for another machine; `driver` is the loop of the driver's job.
"""
