"""The loop that keeps a study going, and what commands ask of a study.

`loop` makes a reconcile pass: observe, classify, decide, act, under the study's lease (`session`). It leaves a summary
(`summary`, written by `summary_file`) for commands that make no pass. `backends` says which cluster backend a profile
means. The packages below import only in this direction, from the top down; `tests/unit/test_architecture.py` holds it:

    loop
    planning, inspect        what will happen; what happened and why
    recovery                 the ledger checked, rebuilt, moved, copied
    driver                   the background job that makes passes, and notices to the user
    summary                  what a pass leaves
    stages                   stages and their runs: requested, begun, decided
    reconcile                what follows for each run from what was observed
    submission               runs become jobs
    session                  the open study
    budget                   what runs cost, spent and may still spend
    backends
"""
