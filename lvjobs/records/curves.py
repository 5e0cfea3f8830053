"""The numbers that a run reported in its journals, as if no attempt had failed: each one, and by metric. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from lvjobs.records.journal import Entry, parse_entries
from lvjobs.records.run_files import parse_checkpoint_name

_KINDS = {"step": "training", "validation": "validation"}


@dataclass(frozen=True)
class Measurement:
    """The metrics of one step (`kind` training) or of one validation, at `time` (seconds since the epoch)."""

    kind: str
    step: int
    time: float
    values: Mapping[str, float]


def measurements(journals: Iterable[bytes]) -> list[Measurement]:
    """Return the measurements in the journals of a run's generations, given in their order; see `measured`."""
    return measured(parse_entries(data)[0] for data in journals)


def measured(attempts: Iterable[Sequence[Entry]]) -> list[Measurement]:
    """Return the measurements in the journal lines of a run's attempts, given in their order.

    They are sorted by step, a validation after the training step of the same number. Steps that an attempt lost and the
    next one repeated appear once, with the repeated values.
    """
    kept: dict[tuple[int, str], Measurement] = {}
    for entry in chain.from_iterable(attempts):
        if entry.kind == "start":
            begun = resumed_step(entry)
            kept = {key: each for key, each in kept.items() if each.step <= begun}
        elif entry.kind in _KINDS:
            step, kind = int(entry.fields["step"]), _KINDS[entry.kind]
            numbers = {name: float(value) for name, value in entry.fields.items() if _is_metric(name, value)}
            others = kept[step, kind].values if (step, kind) in kept else {}  # a step may be reported in parts
            kept[step, kind] = Measurement(kind, step, entry.time, {**others, **numbers})
    return [kept[key] for key in sorted(kept)]


def resumed_step(entry: Entry) -> int:
    """Return the step of the checkpoint that the attempt of this `start` line resumed from; 0 for none."""
    found = parse_checkpoint_name(entry.fields.get("resumed_from") or "")
    return found.step if found else 0


def _is_metric(name: str, value: object) -> bool:
    return name not in ("step", "steps") and isinstance(value, (int, float)) and not isinstance(value, bool)


def rows(run: str, found: Iterable[Measurement]) -> Iterator[dict[str, object]]:
    """Yield a table's rows: one for each number."""
    for each in found:
        for name, value in each.values.items():
            yield {
                "run": run,
                "kind": each.kind,
                "step": each.step,
                "time": each.time,
                "metric": name,
                "value": value,
            }


LOSSES = ("loss", "loss_numeric")
"""The names of a loss in journals, one for each objective: the full softmax's, and the numeric head's. Losses of two
objectives must not be compared.
"""
SHOWN_LOSSES = tuple(f"{kind}{name}" for kind in ("validation_", "") for name in LOSSES)
"""The last losses of a run, in the order in which they are shown: what most often decides comes first."""

_ALIASES = {
    "validation_loss": ("validation", LOSSES),
    "validation_mae": ("validation", ("mae",)),
    "training_loss": ("step", LOSSES),
}


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
