"""What journals say of one metric over the steps of a run: one curve, as if nothing had ever died. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lvjobs.records.checkpoint import parse_checkpoint_name
from lvjobs.records.journal import Entry, parse_entries

LOSSES = ("loss", "loss_numeric")
"""The names of a loss in journals, one for each objective: the full softmax's, and the numeric head's. Nothing may
compare losses of two objectives."""

_ALIASES = {"validation_loss": ("validation", LOSSES), "training_loss": ("step", LOSSES)}


@dataclass
class Curves:
    """Step -> value, by the journal's kind of line (`step`, `validation`) and the metric's name.

    `resumed` are the steps after which an attempt took the run up again; the steps that were lost with its predecessor
    are there once, as they were done again.
    """

    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=lambda: {"step": {}, "validation": {}})
    resumed: list[int] = field(default_factory=list)

    def of(self, metric: str) -> Mapping[int, float]:
        """The curve that a rule of selection names, in the order of steps; empty where no journal has it.

        `validation_loss` and `training_loss` are what validations and steps report as their loss; any other name is
        looked for among the validations' metrics, then the steps'.
        """
        kind, names = _ALIASES.get(metric, ("", (metric,)))
        for where in [kind] if kind else ["validation", "step"]:
            for name in names:
                if found := self.values[where].get(name):
                    return dict(sorted(found.items()))
        return {}


def curves(journals: Iterable[bytes]) -> Curves:
    """From the journals of a run's generations, in their order."""
    made = Curves()
    for number, data in enumerate(journals):
        for entry in parse_entries(data)[0]:
            if entry.kind == "start":
                begun = resumed_step(entry)
                if number:
                    made.resumed.append(begun)
                for kind in made.values.values():
                    for values in kind.values():
                        _forget_after(values, begun)
            elif entry.kind in made.values:
                _add(made.values[entry.kind], entry)
    return made


def value_at(curve: Mapping[int, float], at: int | str, mode: str) -> float | None:
    """The curve's last value, its best, or the one at a step; None where there is none. A best passes over NaN."""
    if at == "last":
        return curve[max(curve)] if curve else None
    if at == "best":
        numbers = [value for value in curve.values() if value == value]  # noqa: PLR0124 - NaN is not itself
        return (min if mode == "min" else max)(numbers, default=next(iter(curve.values()), None))
    return curve.get(int(at))


def _add(into: dict[str, dict[int, float]], entry: Entry) -> None:
    step = int(entry.fields["step"])
    for name, value in entry.fields.items():
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
            into.setdefault(name, {})[step] = float(value)


def resumed_step(entry: Entry) -> int:
    """The step of the checkpoint from which the attempt of this `start` line begins; 0 for none."""
    name = entry.fields.get("resumed_from")
    found = parse_checkpoint_name(name) if name else None
    return found.step if found else 0


def _forget_after(values: dict[int, float], step: int) -> None:
    """What a dead attempt did after the checkpoint that the next one begins from: it is done again."""
    for lost in [other for other in values if other > step]:
        del values[lost]
