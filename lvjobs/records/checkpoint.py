"""Checkpoint names and manifests. A checkpoint is complete or absent: its manifest lists every file's SHA-256."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lvjobs.records.json_record import JsonRecord

MANIFEST = "manifest.json"
_NAME = re.compile(r"(\d{6})-(\d{8})\Z")


@dataclass(frozen=True, order=True)
class CheckpointName:
    """A checkpoint's (generation, step). Ordered: the newest checkpoint is the greatest that is valid."""

    generation: int
    step: int

    def __str__(self) -> str:
        return f"{self.generation:06d}-{self.step:08d}"


def parse_checkpoint_name(text: str) -> CheckpointName | None:
    """Return the name of a published checkpoint directory, or None for any other entry beside them."""
    match = _NAME.match(text)
    return CheckpointName(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Manifest(JsonRecord):
    """The content of a checkpoint: relative file path -> SHA-256 (hex), and the metrics known at its step.

    `time` is in seconds since the epoch. `final`: the run ended with it, although its configuration has more steps.
    `processes` is how many trained it together.
    """

    generation: int
    step: int
    files: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    time: float = 0.0
    final: bool = False
    processes: int = 1
