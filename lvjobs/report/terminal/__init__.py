"""Text for a terminal, or for a program that reads it through a pipe. Each module is one answer.

`status_lines` renders `lvjobs status`, `history_lines` the history of one run and `lvjobs why`, and `stage_lines` the
stages and their winners. `queue_lines` has waiting jobs and faster alternatives, `site_lines` what a site does with
jobs, and `driver_lines` the state of the driver. `finding_lines` prints the doctor's findings, and `ledger_lines` those
of `lvjobs ledger`. `estimate_lines` shows what runs will cost and whether they fit the budget, `budget_lines` the FLOPs
spent and free, and `efficiency_lines` how the GPUs were used. `score_lines` prints scores beside the baselines.
`console` has what these share: the console, colours, bars and reasons.
"""
