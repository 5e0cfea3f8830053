"""The report: one HTML file, and tables beside it. Only `lvjobs report` imports this package.

`compose` makes a page of a study's data, in the plain values that `parts` defines. `answer` writes the sentences that
answer the study's question, `grids` the tables, and `provenance` the origin of each result. `write` renders the HTML.
"""
