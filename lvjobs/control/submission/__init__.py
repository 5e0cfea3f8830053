"""The submission of runs as jobs: declared with name, identity and cost, then submitted, none lost and none twice.

`declare` turns settings into runs, and renews the settings of existing ones. `dispatch` submits waiting runs in turn,
as many as `slots` allows. `send` writes the submission row with its token before sbatch, and keeps the job off the
`avoided_nodes`. `time_limits` chooses time limits from measured steps, and `gpu_requests` checks
that GPU-hours can be counted. `submission_files` writes the files that workers
read.
"""
