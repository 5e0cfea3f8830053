"""Recovery of a ledger that is lost or damaged, and of a study that was moved or copied.

`audit` compares the ledger with the run directories, `check` is `lvjobs ledger check`, both report `findings`.
`backup` copies what only the ledger knows into run directories; `recover` and `rebuild` make a lost ledger from them.
`place` decides whether a study was moved or copied, and translates its paths; `disown` gives up a copy's jobs.
"""
