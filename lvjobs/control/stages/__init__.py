"""Stages of a study: requested by the user, begun when their parents are decided, decided when their runs are complete.

`requests` has the user's commands for stages. `submit_runs` declares and submits runs, those of a stage or a single
one. `advance` moves each open stage as far as possible in a pass. `search` proposes the trials of a stage with a space.
`pruning` pauses runs that compare badly; `halving` lets all wait at a step, from which the best continue. `outcomes`
and `comparison` compare runs. `expand` lists all runs of a study before they exist, and `origins` has evaluations
from several forecast origins. `continuation` has the checkpoints from which runs continue others. The pure rules are in
`lvjobs.sweep`.
"""
