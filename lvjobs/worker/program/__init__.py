"""A program as a run: what a job does for a program that knows nothing of lvjobs.

`execution` is the run from its start to its end, in a `directory` of its own. `activate` makes its environment.
`launch` says which processes each node starts; `surroundings` gives them this node's environment, and a `container` if
there is one; `process` starts them and ends all processes that came from them. On several nodes, `nodes` does that by
`messages` to the `agent` of each other node, which also serves training functions (`lvjobs.worker.ranks`). `progress`
reads steps and metrics (`event_files` those of TensorBoard); `harvest` publishes checkpoints, once all their files are
whole by their `formats`; `stop` ends it in time, and `end` decides what an exit code means.
"""
