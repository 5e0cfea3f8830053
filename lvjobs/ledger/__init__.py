"""runs.db: what lvjobs knows of a study, and the lease that decides who may write it. Only this package knows SQL.

`database` opens runs.db under the `lease`, and migrates it. `tables` has its tables, `records` its rows as dataclasses,
and `reading` converts rows to them. `transaction` has the queries and changes; parts of it are in `staging` (stages),
`closed` (runs that are over) and `kept` (tables of other packages). A new column needs a change in `tables`, in
`records` and a migration.

`backup_record` is what the directory of a run keeps of its rows. `copies` checks runs.db, copies it and puts it aside.
`storage` describes the file system that a study lies on.
"""
