"""The formats of the files that a worker writes and a reconcile pass reads, or the reverse. Formats only, pure.

From the worker: `claim` (the attempt that owns a generation), `journal` (its lines), `checkpoint` (names and
manifests), `done` (the marker of a finished run), `failure` (an error, and whose fault it is), and `node` (the report
of a test job). For the worker: `allowance` (how many steps it may execute).
`json_record` is the base of those that have a file of their own.

From journals: `curves` (one metric over the steps), `measurements` (every number), `sketch` (a curve in a few means).
Of a study: `place` (its directory and id), and `summary` (what commands show that make no pass).
"""
