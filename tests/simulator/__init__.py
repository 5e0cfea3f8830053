"""A simulated Slurm for tests and benchmarks, with a clock of its own and with scripted faults.

`cluster` is the `Cluster` of the protocol, under the same contract tests as Slurm and the local backend. `engine` has
its jobs, its nodes and its time. Nothing in lvjobs imports this package.
"""
