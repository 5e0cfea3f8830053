"""Recovery of a ledger that is lost or damaged, and of a study that was moved or copied.

`audit` compares the ledger with the run directories, `check` is `lvjobs ledger check`, both report `findings`.
`recover` and `rebuild` rebuild a lost ledger from its log and from run directories.
`place` decides whether a study was moved or copied, and translates its paths; `disown` gives up a copy's jobs.
`run_archive` packs the directories of finished runs into one file each.
"""
