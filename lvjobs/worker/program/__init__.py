"""A program as a run: what a job does for a program that knows nothing of lvjobs.

`execution` is the run from its start to its end, in a `directory` of its own. `activate` makes its environment,
`process` starts the program and ends all processes that came from it; `container` starts it in a container; `progress`
reads its steps and metrics (`event_files` those of TensorBoard); `harvest` publishes its checkpoints, once all their
files are whole by their `formats`; `end` decides what its exit code means.
"""
