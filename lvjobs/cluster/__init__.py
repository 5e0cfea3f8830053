"""The package that talks to Slurm, or stands in for it: one `Cluster` protocol with three backends.

`protocol` has the `Cluster` protocol, its records and its errors. `backends` opens the backend of a profile, `slurm` or
`local`. Another scheduler is a module with a `Cluster`, and an entry in `backends`.

Slurm: `commands` runs its commands with a time limit. `sbatch` submits a script, and `refusals` tells what its error
means. `sent` finds what was submitted. `parse` reads squeue and sacct, `sites` a site's settings and limits, `nodes`
sinfo and node lists. `states` has the job states that lvjobs acts on, `reasons` words for the reasons of waiting,
`out_of_memory` the jobs that hide this cause. `enquiry` asks a site everything at once, and `rights` tells whether a
partition takes the user's jobs. `inside` is for a worker in a job. `crontab` installs entries in crontab and scrontab.

Batch scripts: `templates` finds the template of a profile, `profiles` renders it, `options` refuses options of sbatch
that lvjobs sets itself.

The local backend: `local` submits, `local_job` is the process that supervises a job, `local_files` has its files, and
`local_state` reads states from them. The simulated one: `simulated` is the `Cluster`, `simulation` the jobs and their
time.
"""
