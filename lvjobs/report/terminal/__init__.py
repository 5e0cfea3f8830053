"""Text for a terminal, or for a program that reads it through a pipe. A module is one answer, or a family of them.

`status_lines` renders `lvjobs status`, `status_table` its tables, `run_lines` the history of one run, `lvjobs why`,
waiting jobs with faster alternatives, and scores beside the baselines. `stage_lines` has the stages and their winners,
and `finding_lines` the doctor's findings. `plain_lines` has what a site does with jobs, the state of the driver, and
the findings of `lvjobs ledger`. `estimate_lines` shows what runs will cost, `verdict_lines` whether they fit the
budget, and `budget_lines` the FLOPs spent and free, and how the GPUs were used. `console` has what these share: the
console, colours, bars and reasons.
"""
