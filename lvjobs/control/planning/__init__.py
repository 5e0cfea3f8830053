"""The cost of a study before anything is submitted, and plans that fit the budget.

`foresee` reads the ledger and the profiles; `estimate` counts FLOPs, time and disk; `fit` proposes cuts for one
submission, `plans` for the whole study. Nothing here writes.
"""
