"""lvjobs: fine-tuning studies that outlive their cluster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvjobs.worker.interface import Run
    from lvjobs.worker.task import task
    from lvjobs.worker.trainer import fit

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "fit", "task"]


def __getattr__(name: str) -> Any:
    """`lvjobs.task`, `Run` and `fit` (docs/tasks.md): loaded when they are used, for no command needs them."""
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
