"""A metric over the steps of a run, from its journals: one curve, as if no attempt had failed. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lvjobs.records.journal import parse_entries
from lvjobs.records.measurements import measured, resumed_step

LOSSES = ("loss", "loss_numeric")
"""The names of a loss in journals, one for each objective: the full softmax's, and the numeric head's. Losses of two
objectives must not be compared.
"""

_ALIASES = {"validation_loss": ("validation", LOSSES), "training_loss": ("step", LOSSES)}


@dataclass
class Curves:
    """The values by step, for each kind of journal line (`step`, `validation`) and each metric's name.

    `resumed` are the steps after which an attempt resumed the run. Steps that an attempt lost and the next one repeated
    appear once, with the repeated values.
    """

    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=lambda: {"step": {}, "validation": {}})
    resumed: list[int] = field(default_factory=list)

    def of(self, metric: str) -> Mapping[int, float]:
        """Return the curve that a selection rule names, in the order of steps; empty where no journal has it.

        `validation_loss` and `training_loss` are the losses that validations and steps report. Any other name is looked
        up among the validations' metrics, then the steps'.
        """
        kind, names = _ALIASES.get(metric, ("", (metric,)))
        for where in [kind] if kind else ["validation", "step"]:
            for name in names:
                if found := self.values[where].get(name):
                    return dict(sorted(found.items()))
        return {}


def curves(journals: Iterable[bytes]) -> Curves:
    """Return the curves in the journals of a run's generations, given in their order."""
    attempts = [parse_entries(data)[0] for data in journals]
    starts = (entry for entries in attempts[1:] for entry in entries if entry.kind == "start")
    made = Curves(resumed=[resumed_step(entry) for entry in starts])
    for each in measured(attempts):
        by_name = made.values["step" if each.kind == "training" else each.kind]
        for name, value in each.values.items():
            by_name.setdefault(name, {})[each.step] = value
    return made


def value_at(curve: Mapping[int, float], at: int | str, mode: str) -> float | None:
    """Return the curve's last value, its best, or the value at a step; None where there is none. A best ignores NaN."""
    if at == "last":
        return curve[max(curve)] if curve else None
    if at == "best":
        numbers = [value for value in curve.values() if value == value]  # noqa: PLR0124 - NaN is not itself
        return (min if mode == "min" else max)(numbers, default=next(iter(curve.values()), None))
    return curve.get(int(at))
