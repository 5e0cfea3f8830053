"""Every number that a run reported, as if no attempt had failed: one sequence of steps, each with its time. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from lvjobs.records.checkpoint import parse_checkpoint_name
from lvjobs.records.journal import Entry, parse_entries

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
    return name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)


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
