"""lvjobs: fine-tuning studies that outlive their cluster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvjobs.api.study import Study
    from lvjobs.worker.interface import Run
    from lvjobs.worker.task import task
    from lvjobs.worker.trainer import fit

__version__ = "0.1.0"
__all__ = ["Run", "Study", "__version__", "fit", "task"]


def __getattr__(name: str) -> Any:
    """Return `lvjobs.Study` (docs/api.md), `task`, `Run` or `fit` (docs/tasks.md): each is loaded when it is used."""
    if name == "Study":
        from lvjobs.api.study import Study

        return Study
    if name == "task":
        from lvjobs.worker.task import task

        return task
    if name == "Run":
        from lvjobs.worker.interface import Run

        return Run
    if name == "fit":
        from lvjobs.worker.trainer import fit

        return fit
    raise AttributeError(f"module 'lvjobs' has no attribute {name!r}")
