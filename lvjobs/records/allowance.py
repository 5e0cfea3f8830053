"""How much a run may execute: `allowance.json` in its directory, written by a pass, obeyed by the worker."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Allowance:
    """Training steps, counted from the run's beginning over all its attempts: useful ones and those that were lost."""

    training: int

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self)) + "\n"


def parse_allowance(text: str) -> Allowance:
    """The allowance that `Allowance.to_json` wrote. Raises ValueError when the text is not one."""
    try:
        return Allowance(training=int(json.loads(text)["training"]))
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an allowance: {error}") from None
