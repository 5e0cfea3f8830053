"""FLOPs, GPU-hours and step times: the cost of runs, what they spent, what is reserved and what is left.

`cost` counts the work of a run; the run's task prices one unit of it (`lvjobs.tasks`). `charges` counts what attempts
executed, `gpu_hours` what jobs hold. `accounts` keeps the books and makes the statement that `lvjobs budget` shows,
`limit` records the limits and their changes. `archive` adds up ended runs and keeps their sums. `efficiency` measures
how well machines were used, `pace` how long runs take, `intervals` how often to checkpoint. FLOPs are integers, times
seconds unless named.
"""
