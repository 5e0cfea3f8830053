"""Stages of a study: requested by the user, begun when their parents are decided, decided when their runs are complete.

`requests` has what a user may ask of stages. `submit_runs` declares and submits runs, those of a stage or a single one.
`advance` takes each open stage as far as it can go in a pass. `search` proposes the trials of a stage with a space,
`pruning` pauses runs that compare badly, `outcomes` and `comparison` say how runs compare. `expand` lists all runs of
a study before any is known. The pure rules are in `lvjobs.sweep`.
"""
