"""How much a run may execute: `allowance.json` in its directory, written by reconcile passes, obeyed by the worker."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Allowance:
    """The training steps that a run may execute, over all its attempts: useful steps and those that were lost."""

    training: int

    def to_json(self) -> str:
        """Return one JSON object as text."""
        return json.dumps(asdict(self)) + "\n"


def parse_allowance(text: str) -> Allowance:
    """Return the allowance that `Allowance.to_json` wrote. Raises ValueError when the text is not one."""
    try:
        return Allowance(training=int(json.loads(text)["training"]))
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an allowance: {error}") from None
