"""The checks of `lvjobs doctor`: what it inspects, what follows from it, and the remedy. It changes nothing.

`examine` runs all checks in order. `interface` has what each check reads and yields.

Checks of this machine and the study: `software` (versions), `profile` (the batch script), `places` (directories and
disks, with `quotas`; model, data, budget) and `container` (a program's). Checks of the site: `scheduler` (Slurm and
accounting, preemption, requeue, driver), `permission` (account, partition, QOS) and `room` (size, time limit, queue).
For `--job`, `errand` submits a test job, and `node` explains its report. `bundle` gathers an archive for a helper.
"""
