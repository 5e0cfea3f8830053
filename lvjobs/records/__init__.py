"""The formats of the files that a worker writes and a reconcile pass reads, or the reverse. Formats only, pure.

From the worker: `journal` (its lines), `failure` (an error, and whose fault it is), `software` (what it ran with), and
`node` (the report of a test job). `run_files` has the records that have a file of their own: the attempt that owns a
generation, names and manifests of checkpoints, the marker of a finished run, and how many steps the worker may execute.
`checkpoint_head` reads the beginning of a checkpoint.
To the worker: `submission` (what the members of a submission are to train, and the orders that passes added since).

From journals: `curves` (every number, and one metric over the steps), and `sketch` (a curve in a few means).
Of a study: `place` (its directory and id), and `summary` (what commands show that make no pass).
"""
