"""The runs of a stage, and the comparison of their results. Pure: reconcile passes call it with what the ledger holds.

`request` keeps what a stage was requested with, and makes the settings and configurations of its runs, from study.toml
and an earlier winner. `sampling` proposes points of a space, `pruning` finds runs that are not worth continuing, and
`selection` ranks the candidates and names the winner. A new pruner is an entry of `PRUNERS` in `pruning`, with its
keys in `lvjobs.study.stages`.
"""
