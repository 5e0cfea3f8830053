"""What a study will cost before anything is submitted, and plans that fit the budget.

`foresee` reads what is known (ledger, profiles); `estimate` counts FLOPs, time and disk; `fit` proposes cuts for one
submission, `plans` for the whole study. Nothing here writes.
"""
