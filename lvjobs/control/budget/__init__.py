"""FLOPs, GPU-hours and step times: what runs cost, what they spent, what is reserved and what is left.

`cost` counts the work of a run; the run's task says what a unit costs (`lvjobs.tasks`). `charges` counts what attempts
executed, `accounts` keeps the books, `limit` records the limit and its changes, `statement` is what `lvjobs budget`
shows. `archive` keeps the sums of runs that are over, added up by `tally`. `efficiency` measures how well machines were
used, `pace` how long runs take, `intervals` how often to checkpoint. All integers of FLOPs; seconds unless named.
"""
