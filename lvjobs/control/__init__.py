"""The loop that keeps a study going, and the operations of commands on a study.

`loop` makes a reconcile pass: observe, classify, decide, act, under the study's lease (`session`). It writes a summary
(`summary`, written by `summary_file`) for commands that make no pass. `backends` finds the cluster backend of a
profile. The packages below import only from the top down; `tests/unit/test_architecture.py` checks it:

    loop
    planning, inspect        what will happen; what happened and why
    recovery                 a ledger that is checked or rebuilt; a study that was moved or copied
    driver                   the background job that makes passes, and notices to the user
    summary                  the result of a pass
    stages                   stages and their runs: requested, begun, decided
    reconcile                the actions that follow for each run from observations
    submission               the jobs of runs, and their submission
    session                  the open study
    budget                   what runs cost, spent and may still spend
    backends
"""
