"""The code that runs inside a job: it trains one run, checkpoints it and stops in time.

`Run` is what a training function sees; all other modules serve it.

Start and end: `runner` leads from a run directory to an exit code. `environment` has the codes, and reads what the
batch script tells the worker. `submission` reads what the run is, and whether it may still be trained. `generation`
claims the run and fences off older attempts. `allowance` keeps the run within the steps and the GPU-hours that are
reserved for it. `journal` writes the attempt's lines, and ties a checkpoint to what came before.
`lvjobs.records.failure` decides how an exception of the training code is recorded. `wake` triggers the driver from the
job's script.

One attempt: `attempt` implements the `Run` that `interface` declares, and `printed` prints its progress to the log.
`signals` and `early_exit` decide when it stops, why, and whether the job requeues itself. `software` records what it
ran with, down to the `versions` of packages and the device.

State: `checkpoints` publishes and finds checkpoints, `parent` the one of another run that this run continues, and
`pruning` deletes old ones. `stored` is one as it is on disk, a file or a directory, and `tensor_file` the format of
such a file. `state` takes trees apart. `saved_files` copies out what a task wrote as files, at the end to `final/`, and
writes the done marker. `determinism` seeds and restores the generators. `loading` keeps garbage collection rare until
the first step.

Several processes, also on several nodes: `follower` is every rank of a process group but the first, `ranks` starts
them and watches them, and `process_group` adds up their tensors. `pack` trains several runs in one job.

Programs: `program` runs one that knows nothing of lvjobs, and takes its checkpoints.

Tasks: `task` has `@lvjobs.task`, and `measure` counts the FLOPs of a first step. `trainer` adapts Hugging Face's
Trainer, and `trainer_data` makes its data draw from their own generators. `node_probe` is the test job of `lvjobs
doctor`, and `container_probe` its look into a container.
"""

from lvjobs.worker.interface import Resumed, Run, Saver, State, Team
from lvjobs.worker.process_group import Alone
from lvjobs.worker.signals import shielded

__all__ = ["Alone", "Resumed", "Run", "Saver", "State", "Team", "shielded"]
