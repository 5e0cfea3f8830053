"""The tables, figures and pages that show a study, made from plain values and from the files of its runs.

For a terminal: `status` renders `lvjobs status`, `story` the history of one run and `lvjobs why`, and `stages` the
stages and their winners. `queue` has waiting jobs and faster alternatives, `site` what a site does with jobs, and
`driver` the state of the driver. `doctor` prints the doctor's findings, and `ledger` those of `lvjobs ledger`. `tables`
has what these share: the console, colours, bars and reasons.

Costs: `estimate` shows what runs will cost and whether they fit the budget. `budget` prints the FLOPs spent and free,
`budget_table` makes the same a table for a paper, and `efficiency` shows how the GPUs were used.

Results: `evaluation` prints scores beside the baselines. `evaluated` finds the finished evaluations and groups those
that compare, and `again` has the arguments that repeat one. `study_tables` makes Tables 2 and 3, `losses` reads the
journals' loss curves, and `material` gathers what figures are drawn from.

Output: `figures` draws and `page` writes the report's HTML. `export` writes CSV and JSON lines, `tensorboard` writes
event files, and `outputs` guards the directories they go to. `numbers` formats every number.
"""
