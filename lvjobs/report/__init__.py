"""The tables, figures and pages that show a study, made from plain values and from the files of its runs.

Output: `terminal` has the text that commands print (a column of `lvjobs status` goes into `terminal/status_table`, a
new value of a row into `lvjobs.records.summary`), `figures` draws, and `page` writes the report's HTML. `outputs`
writes CSV, JSON lines and event files, and guards the directories that results go to. `table` is one table for all of
these, and `numbers` formats every number.

Results: `evaluated` finds the finished evaluations, groups those that compare, and has the arguments that repeat one;
`folds` pools those of a k-fold split, and `extras` shares the extra baselines of evaluations of the same series.
`chosen` picks the models that are shown, by validation and never silently by their test score; `comparisons` compares
them in pairs. `study_tables` makes Tables 2 to 4, and `horizon_table` the errors of the first steps, by variable, and
scaled, and `origin_table` those by forecast origin. `material` reads the journals' loss curves, and gathers what
figures are drawn from.
"""
