"""Runs become jobs: declared with name, identity and cost, then submitted so that none is lost and none comes twice.

`declare` turns settings into runs. `dispatch` takes waiting runs in turn, as many as `slots` allows. `send` writes the
submission row with its token before sbatch; `placement` keeps the job off the `avoided_nodes`. `time_limits` and
`timing` choose time limits from measured steps. `current_settings` says what of a run follows study.toml as it is now.
`run_directories` writes what workers read.
"""
