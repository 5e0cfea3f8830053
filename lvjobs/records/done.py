"""The done marker: a finished run writes it once, durably; a worker that finds it trains no more."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from lvjobs.foreign import clean


@dataclass(frozen=True)
class Done:
    """A finished run: the generation and step it ended at, the checkpoint its weights came from, its last metrics."""

    generation: int
    step: int
    checkpoint: str
    time: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object as text."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def parse_done(text: str) -> Done:
    """Return the marker that `Done.to_json` wrote. Raises ValueError when the text is not one."""
    try:
        return Done(**clean(json.loads(text)))
    except TypeError as error:
        raise ValueError(f"not a done marker: {error}") from None
