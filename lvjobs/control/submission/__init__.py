"""The submission of runs as jobs: declared with name, identity and cost, then submitted, none lost and none twice.

`declare` turns settings into runs. `dispatch` submits waiting runs in turn, as many as `slots` allows. `send` writes
the submission row with its token before sbatch, and keeps the job off the `avoided_nodes`. `time_limits` and
`timing` choose time limits from measured steps. `current_settings` renews a run's settings from the current study.toml.
`run_directories` writes the files that workers read.
"""
