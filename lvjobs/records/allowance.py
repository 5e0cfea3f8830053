"""How much a run may execute: `allowance.json` in its directory, written by reconcile passes, obeyed by the worker."""

from dataclasses import dataclass

from lvjobs.records.json_record import JsonRecord


@dataclass(frozen=True)
class Allowance(JsonRecord):
    """The training steps that a run may execute, over all its attempts: useful steps and those that were lost."""

    training: int

    def __post_init__(self) -> None:
        """Refuse what is no number: a run must not train without a limit."""
        if not isinstance(self.training, int):
            raise TypeError(f"{self.training!r} is no number of steps")
