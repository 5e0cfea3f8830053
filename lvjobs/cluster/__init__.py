"""The package that talks to Slurm, or stands in for it: one `Cluster` protocol with two backends.

`protocol` has the `Cluster` protocol, its records and its errors. `backends` opens the backend of a profile, `slurm` or
`local`. Another scheduler is a module with a `Cluster`, and an entry in `backends`.

Slurm: `commands` runs its commands with a time limit. `sbatch` submits a script, and `refusals` tells what its errors
mean. `sent` finds what was submitted. `parse` reads squeue and sacct, `sites` a site's settings and limits, `nodes`
sinfo and node lists. `states` has the job states that lvjobs acts on, and the words for why a job waits.
`out_of_memory` finds jobs that ran out of memory although their state is FAILED. `enquiry` asks a site everything at
once, and `presence` what `lvjobs init` proposes. `inside` is for a worker in a job. `crontab` installs entries in
crontab and scrontab.

Batch scripts: `templates` finds the template of a profile, `profiles` renders it, `options` refuses options of sbatch
that lvjobs sets itself.

The local backend: `local` submits, `local_job` is the process that supervises a job, and `local_files` has its files
and reads states from them. Tests and benchmarks have a third backend, a simulation (tests/simulator).
"""
