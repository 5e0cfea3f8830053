"""The use of torch.compile: the same weights under the same names, by other kernels."""

import contextlib
from collections.abc import Iterator
from typing import Any

from lvjobs.errors import LvjobsError
from lvjobs.worker import shielded


def compile_layers(model: Any) -> None:
    """Have the model's layers compiled when they are first called, in place: trained weights keep their names.

    Layers are compiled one by one: all are alike, so one is compiled for all. Each is compiled for one shape at a time:
    torch would otherwise compile for any shape once it has met a second one, and a run that resumes meets them in
    another order.
    """
    kinds = getattr(model, "_no_split_modules", None) or ()
    for layer in [part for part in model.modules() if type(part).__name__ in kinds] or [model]:
        layer.compile(dynamic=False)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Shield compilers in here: they are processes, and a signal that asks this run to stop must not kill them.

    Raises:
        LvjobsError: this machine cannot compile.
    """
    try:
        with shielded():
            yield
    except Exception as error:  # dynamo and inductor have no base class of their own, only modules
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise LvjobsError(
            f"compile = true, and this machine cannot compile the model ({reason.strip()}): load a compiler, such as "
            f"gcc among [resources] modules, or set compile = false"
        ) from error
