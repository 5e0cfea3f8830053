"""The Python API: everything that a command can do, as typed functions. No click, no printing, no torch.

`study` has the class `Study`, which `import lvjobs` offers as `lvjobs.Study`; `view` has the half of its methods that
starts and ends nothing. The other modules do their work: `results` has the values that they return; `updates`
reconciles a study and waits for runs; `settings` and `own` make settings of study.toml and of what a caller gives;
`submit` submits runs, `sweep` stages, `evaluate` and `forecast` evaluations of what `subjects` finds; `costs` counts
before anything is spent; `inspect` explains runs and the queue; `publish` writes reports, figures, exports and copies
of runs.db; `create` makes a study directory; `driver` is the loop of the driver's job.
"""
