"""The cost of a study before anything is submitted, and plans that fit the budget.

`ledger_view` reads the ledger; `foresee` combines it with the profiles; `estimate` counts FLOPs, time and disk; `fit`
proposes cuts for one submission, `plans` for the whole study. Nothing here writes, except `apply`, which changes
study.toml to a plan.
"""
