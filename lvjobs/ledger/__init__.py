"""runs.db: what lvjobs knows of a study, and the lease that decides who may write it. Only this package knows SQL.

`database` opens runs.db under the `lease`, and `schema` creates and migrates the file. `log` copies each commit into
`.lvjobs/ledger.log`, and `replay` makes a lost runs.db from that. `records` has its rows as dataclasses, and `tables`
its tables: their columns are the records' fields. `transaction` has the queries and changes; parts of it are in `rows`
(rows as records, closed runs, and the tables of other packages). A new column needs a field in `records` and a
migration. `reading` has helpers for rows that were read.

`copies` checks runs.db, copies it and puts it aside. `read_only` opens a copy where nothing can be written.
`storage` describes the file system that a study lies on.
"""
