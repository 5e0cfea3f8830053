"""The winner of a stage, and the reason for it. Pure.

A cell that the cluster ended, or that waits, is no failed trial: it has no value yet. A value that is NaN or infinite
cannot win. Cells that differ only in their seed are one candidate, with the mean of their values.
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lvjobs.study.stages import Select

Standing = Literal["done", "open", "held", "cancelled", "pruned"]


@dataclass(frozen=True)
class Outcome:
    """One cell. Cells of one `candidate` differ only in their seed; `flops` is the run's cost without any failure.

    `value` is None where the journal has none at the place that the rule names.
    """

    run_id: str
    name: str
    candidate: Hashable
    standing: Standing
    value: float | None = None
    flops: int = 0


@dataclass(frozen=True)
class Candidate:
    """Cells that differ only in their seed. `value` is None where it cannot be compared; `why` then has the reason.

    `error` is the standard error of the mean; None for a single cell.
    """

    cells: Sequence[Outcome]
    value: float | None
    error: float | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """Return the name of the first cell, which represents the candidate."""
        return self.cells[0].name

    @property
    def flops(self) -> int:
        """Return the FLOPs of all its cells."""
        return sum(cell.flops for cell in self.cells)


@dataclass(frozen=True)
class Ranking:
    """The comparable candidates, best first, and the others as declared. `why` is why the first one won."""

    ranked: Sequence[Candidate]
    others: Sequence[Candidate]
    why: str = ""

    @property
    def winner(self) -> Outcome | None:
        """Return the run whose settings the next stage takes over; None where no candidate is comparable."""
        return self.ranked[0].cells[0] if self.ranked else None


def rank(outcomes: Iterable[Outcome], rule: Select) -> Ranking:
    """Rank the candidates by the rule's metric, then (where equal) by cost, then in the order of declaration.

    The rule's `ties` may leave out the cost.
    """
    found = [_candidate(cells, rule) for cells in grouped(outcomes)]
    if len(found) == 1 and all(cell.standing == "done" and cell.value is None for cell in found[0].cells):
        return Ranking(found, [], "the stage's only candidate")  # without a competitor it needs no value
    sign = 1 if rule.mode == "min" else -1
    comparable = [candidate for candidate in found if candidate.value is not None]
    ranked = sorted(
        comparable,
        key=lambda candidate: (sign * (candidate.value or 0.0), candidate.flops if rule.ties == "cheapest" else 0),
    )
    others = [candidate for candidate in found if candidate.value is None]
    return Ranking(ranked, others, _why(ranked, others, rule))


def waits_for(outcomes: Sequence[Outcome], on_hold: str, quorum: int | None) -> list[Outcome]:
    """Return the cells that the stage's decision waits for: open ones, and held ones unless the stage skips them.

    `on_hold` is `wait` or `skip`. Cancelled or pruned cells are never waited for. A held cell is skipped only once
    `quorum` candidates (None: one) are done.
    """
    open_ = [outcome for outcome in outcomes if outcome.standing == "open"]
    held = [outcome for outcome in outcomes if outcome.standing == "held"]
    whole = [cells for cells in grouped(outcomes) if all(cell.standing == "done" for cell in cells)]
    enough = len(whole) >= (quorum or 1)
    return open_ + (held if on_hold == "wait" or not enough else [])


def grouped(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    """Return the cells by candidate, in the order in which they are given."""
    groups: dict[Hashable, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.candidate, []).append(outcome)
    return list(groups.values())


def _candidate(cells: Sequence[Outcome], rule: Select) -> Candidate:
    for cell in cells:
        of = f" of {cell.name}" if len(cells) > 1 else ""
        if cell.standing != "done":
            return Candidate(cells, None, why={"open": "not done"}.get(cell.standing, cell.standing) + of)
        if cell.value is None:
            where = {"last": "", "best": ""}.get(str(rule.at), f" at step {rule.at}")
            return Candidate(cells, None, why=f"no {rule.metric}{where}{of}")
        if not math.isfinite(cell.value):
            return Candidate(cells, None, why=f"{rule.metric}{of} is no number ({cell.value})")
    values = [cell.value for cell in cells if cell.value is not None]
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Candidate(cells, statistics.fmean(values), error)


def _why(ranked: Sequence[Candidate], others: Sequence[Candidate], rule: Select) -> str:
    if not ranked:
        return ""
    if len(ranked) + len(others) == 1:
        return "the stage's only candidate"
    best = ranked[0]
    words = f"{rule.words}: {best.value:.6g}"
    if best.error is not None:
        words += f" (mean of {len(best.cells)} runs, standard error {best.error:.2g})"
    if len(ranked) > 1:
        second = ranked[1]
        if second.value == best.value:
            tied = [candidate.name for candidate in ranked[1:] if candidate.value == best.value]
            by = "the cheapest" if rule.ties == "cheapest" and best.flops < second.flops else "the first declared"
            words += f", tied with {', '.join(tied)}; {by} wins"
        else:
            words += f"; next {second.name} with {second.value:.6g}"
    if others:
        words += f"; left out: {', '.join(_left_out(others))}"
    return words


_NAMED = 3
"""The most candidates that are named for one reason. If more are left out, they are counted; the table lists them."""


def _left_out(others: Sequence[Candidate]) -> Iterator[str]:
    for why in dict.fromkeys(each.why for each in others):
        names = [each.name for each in others if each.why == why]
        yield from (f"{name} ({why})" for name in names) if len(names) <= _NAMED else [f"{len(names)} ({why})"]
