"""The checks of `lvjobs doctor`: what it inspects, what follows from it, and the remedy. It changes nothing.

`examine` runs all checks in order, on what `asked` describes: a study and its jobs, or a machine without one. Each
check yields a `diagnosis`. `facts` has Slurm's answers, parsed once for all checks of the site.

Checks of this machine and the study: `software` (versions), `profile` (the batch script), `places` (directories and
disks, with `quotas`) and `inputs` (model, data, budget). Checks of the site: `scheduler` (Slurm and accounting),
`permission` (account, partition, QOS), `room` (size, time limit, queue) and `promises` (preemption, requeue, driver).
For `--job`, `errand` submits a test job, and `node` explains its report.
"""
