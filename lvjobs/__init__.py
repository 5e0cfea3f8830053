"""lvjobs: fine-tuning studies that outlive their cluster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvjobs.worker.interface import Run
    from lvjobs.worker.task import task

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "task"]


def __getattr__(name: str) -> Any:
    """`lvjobs.task` and `lvjobs.Run` (docs/tasks.md): loaded when they are used, for no command needs them."""
    if name == "task":
        from lvjobs.worker.task import task

        return task
    if name == "Run":
        from lvjobs.worker.interface import Run

        return Run
    raise AttributeError(f"module 'lvjobs' has no attribute {name!r}")
