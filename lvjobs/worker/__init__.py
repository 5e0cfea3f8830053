"""The code that runs inside a job: it trains one run, checkpoints it and stops in time.

`Run` is what a training function sees; all other modules serve it.

Start and end: `runner` leads from a run directory to an exit code, and `exits` has the codes. `environment` reads what
the batch script tells the worker. `generation` claims the run and fences off older attempts. `finishing` publishes the
final weights and the done marker. What an exception of the training code is recorded as is in `lvjobs.records.failure`.
`wake` triggers the driver from the job's script.

One attempt: `attempt` implements the `Run` that `interface` declares. `journal` writes its lines. `allowance` keeps it
within its reserved steps. `signals`, `deadline` and `early_exit` decide when it stops, why, and whether the job
requeues itself. `versions` records what it ran with.

State: `checkpoints` writes and verifies checkpoints, `state` stores their trees, and `retention` deletes old ones.
`determinism` seeds and restores the generators. `loading` keeps garbage collection rare until the first step.

Several processes: `rank_launcher` starts the ranks of a process group, `follower` is every rank but the first, and
`process_group` adds up their tensors. `pack` trains several runs in one job.

Tasks: `task` has `@lvjobs.task`, and `measure` counts the FLOPs of a first step. `trainer` adapts Hugging Face's
Trainer, and `trainer_data` makes its data draw from their own generators. `node_probe` is the test job of `lvjobs
doctor`.
"""

from lvjobs.worker.interface import Resumed, Run, Saver, State, Team
from lvjobs.worker.process_group import Alone
from lvjobs.worker.signals import shielded

__all__ = ["Alone", "Resumed", "Run", "Saver", "State", "Team", "shielded"]
