"""The done marker: a finished run writes it once, durably; a worker that finds it trains no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lvjobs.records.json_record import JsonRecord


@dataclass(frozen=True)
class Done(JsonRecord):
    """A finished run: the generation and step it ended at, the checkpoint its weights came from, its last metrics."""

    generation: int
    step: int
    checkpoint: str
    time: float
    metrics: Mapping[str, float] = field(default_factory=dict)
