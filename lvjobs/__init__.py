"""lvjobs: fine-tuning studies that outlive their cluster.

`cli` has the commands and `api` what they call. `study` has what the user declares, a new key of study.toml included.
`control` keeps a study going: it talks to a scheduler by `cluster`, and keeps what it knows in `ledger`. `worker` runs
inside a job, and leaves files in the formats of `records`. `tasks` says what a run executes; `forecasting` is the
bundled task. `sweep` compares runs, `flops` counts what they cost, and `report` shows them. `doctor` checks a site,
`rehearsal` tries a task, and `lab` is a Slurm cluster on one machine.

Every package may use `errors`, `files` (durable writes), `foreign` (text of other programs, cleaned), `processes` and
`remedies` (the commands that messages name).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvjobs.api.study import Study
    from lvjobs.worker.interface import Run
    from lvjobs.worker.task import task
    from lvjobs.worker.trainer import fit

__version__ = "0.1.0"
__all__ = ["Run", "Study", "__version__", "fit", "task"]


_MODULES = {
    "Run": "lvjobs.worker.interface",
    "Study": "lvjobs.api.study",
    "fit": "lvjobs.worker.trainer",
    "task": "lvjobs.worker.task",
}


def __getattr__(name: str) -> Any:
    """Return `lvjobs.Study` (docs/api.md), `task`, `Run` or `fit` (docs/tasks.md): each is loaded when it is used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lvjobs' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
