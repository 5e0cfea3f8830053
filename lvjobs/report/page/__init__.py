"""The report: one HTML file, and tables beside it. Only `lvjobs report` imports this package.

`pieces` defines a page as plain values, and `compose` makes it of a study's data. `answer` writes the
sentences that answer the study's question, and `grids` has the tables, which name the origin of each result too.
`write` renders the HTML, with each figure's panels as SVG.
"""
