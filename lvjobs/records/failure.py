"""Errors that end an attempt, as its journal records them, and whose fault each one is. Pure.

This is the one place that decides whether the code is to blame. Only the error's type and text decide: a follower's
error comes as text, and torch is not imported here.
"""

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lvjobs.foreign import cleaned
from lvjobs.study.words import Breakdown, Cause

_TRACEBACK_LIMIT = 20_000


@dataclass(frozen=True)
class BreakdownRule:
    """A failure that another attempt may not meet: the cause that it has, and the errors by which it is recognised.

    `words` are for people. An error shows it if `types` matches the name of its type, `texts` is found in its message,
    and `unless` is not.
    """

    cause: Cause
    words: str
    types: re.Pattern[str]
    texts: re.Pattern[str]
    unless: re.Pattern[str]

    def explains(self, kind: str, message: str) -> bool:
        """Return whether an error of this type and text shows the failure."""
        if not self.types.fullmatch(kind) or self.unless.search(message):
            return False
        return bool(self.texts.search(message))


RULES: Mapping[Breakdown, BreakdownRule] = {
    Breakdown.DEVICE: BreakdownRule(
        Cause.KILLED,
        "a device failed",
        # Errors of torch, NCCL and NVML. The text of a training function's own ValueError proves nothing.
        types=re.compile(r"RuntimeError|AcceleratorError|DeferredCudaCallError|DistBackendError|NVMLError\w*"),
        # Words of CUDA, its driver and NVML for broken hardware, or a broken driver. Excluded is what a bug of the code
        # may cause as well: unknown error, too little memory, no visible GPU, a missing kernel.
        texts=re.compile(
            r"uncorrectable (ECC|NVLink) error"
            r"|no CUDA-capable device is detected"
            r"|CUDA-capable device(s|\(s\) is/are| is) (are )?busy or unavailable"
            r"|CUDA driver initialization failed"
            r"|hardware stack error"
            r"|system not yet initialized"
            r"|\b(GPU|device) is lost\b"
            r"|\bfallen off the bus\b"
            r"|\bNVML\b|\bXid\b"
        ),
        unless=re.compile(
            r"illegal memory access|misaligned address|device-side assert triggered|unspecified launch failure"
            r"|out of memory",
            re.IGNORECASE,
        ),
    ),
}
"""The failures that an error can show. In doubt, the code is to blame."""


@dataclass(frozen=True)
class RecordedError:
    """An exception of a training function. `breakdown` is what failed, NONE if the code is to blame.

    `node` is Slurm's name of the node, empty if there is none.
    """

    type: str
    message: str
    traceback: str = ""
    breakdown: Breakdown = Breakdown.NONE
    node: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the journal's `error` line."""
        fields = {"type": self.type, "message": self.message, "traceback": self.traceback[-_TRACEBACK_LIMIT:]}
        if self.breakdown is Breakdown.NONE:
            return fields
        is_device = {"device": True} if self.breakdown is Breakdown.DEVICE else {}  # the word of earlier releases
        return {**fields, "breakdown": self.breakdown.value, **is_device, "node": self.node}


def breakdown_of(kind: str, message: str) -> Breakdown:
    """Return what failed if an error has this type and text; NONE if the code is to blame."""
    shown = (breakdown for breakdown, rule in RULES.items() if rule.explains(kind, message))
    return next(shown, Breakdown.NONE)


def record_error(error: BaseException, node: str = "") -> RecordedError:
    """Return the exception that is being handled, judged by `RULES`; the record that it has, if it has one."""
    if isinstance(own := getattr(error, "recorded", None), RecordedError):
        return replace(own, node=own.node or node)
    kind, message = type(error).__name__, cleaned(str(error))
    breakdown = breakdown_of(kind, message)
    if kind == "OutOfMemoryError" and "out of memory" in message:
        message += (
            "\nThe GPU's memory is too small for this configuration. Halve the batch size (and double the gradient "
            "accumulation, where the task has it), turn on gradient checkpointing, or shorten the context."
        )
    return RecordedError(kind, message, cleaned(traceback.format_exc()), breakdown, node)


def read_error(fields: Mapping[str, Any]) -> RecordedError:
    """Return the error of a journal's `error` line, of this release or an earlier one."""
    breakdown = fields.get("breakdown") or ("device" if fields.get("device") else "")
    return RecordedError(
        str(fields.get("type", "Error")),
        str(fields.get("message", "")),
        str(fields.get("traceback", "")),
        Breakdown(breakdown),
        str(fields.get("node") or "") if breakdown else "",
    )
