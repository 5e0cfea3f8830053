"""FLOPs until a stage has its winner: synchronous halving against the grid repeated, Hyperband, ASHA and random search.

    python benchmarks/searching.py [--draws 4000] [--smoke]

`benchmarks/curves` has recorded (by `recorded.py`) validation losses of grids of 27 cells of `tiny` (rank x rate), each
trained to its end with 5 seeds: 180 steps on windows of 512 tokens, and 90 on windows of 256, on other data. That the
mean of validations is compared at a rung was chosen by the first; the second was recorded afterwards.

Each draw takes, for every cell, one seed for a reference grid, and one of the others for all ways that are compared:
they search the same curves. The reference grid's winner sets the mark: its mean loss over all seeds, and the standard
error of that. A way succeeds if the mean loss of the cell that it chose is at most one standard error above. So the
whole grid, trained again with other seeds, does not always succeed: it is the peer.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from measuring import command_line, print_table
from recorded import CURVES, GRIDS, Cell, Curve, read_curves

from lvjobs.study.stages import Prune
from lvjobs.sweep.pruning import RungValue, best, pruned, rungs, value_at
from lvjobs.sweep.selection import Outcome

_PEER, _OURS = "the grid, repeated", "halving: the best 3 at 2/9"
_GOAL = "1/3, -.02"
_HALVING = Prune(rule="halving", at=["2/9"], keep=[3])
_AT_ONCE = 2


@dataclass(frozen=True)
class Found:
    """The choice of a search: the cell, and the step to which each cell was trained."""

    cell: int
    reached: Mapping[int, int]


Way = Callable[[Sequence[Curve], random.Random], Found]


@dataclass(frozen=True)
class Draw:
    """The result of a search in one draw: its success, and its shares of the whole grid's FLOPs."""

    success: bool
    training: float
    whole: float
    above: float
    """The mean loss of the cell that was chosen, above the lowest of all cells."""


def whole_grid(curves: Sequence[Curve], _draw: random.Random) -> Found:
    """Train every cell to its end."""
    last = max(curves[0])
    return Found(min(range(len(curves)), key=lambda cell: curves[cell][last]), dict.fromkeys(range(len(curves)), last))


def whole_grid_by_means(curves: Sequence[Curve], _draw: random.Random) -> Found:
    """Train every cell to its end, and choose by the mean of its last half."""
    last = max(curves[0])
    losses = [value_at(last, curve) or math.nan for curve in curves]
    return Found(losses.index(min(losses)), dict.fromkeys(range(len(curves)), last))


def stopped_at_the_rung(curves: Sequence[Curve], _draw: random.Random) -> Found:
    """Train every cell to the rung alone, and choose there as halving does."""
    (rung,) = rungs(_HALVING, max(curves[0]))
    losses = [value_at(rung, curve) or math.nan for curve in curves]
    return Found(losses.index(min(losses)), dict.fromkeys(range(len(curves)), rung))


def halving(rule: Prune, value: Callable[[int, Curve], float | None] = value_at) -> Way:
    """Train every cell to the rung, and the best to the next one or their end: the code that studies use."""

    def search(curves: Sequence[Curve], _draw: random.Random) -> Found:
        last = max(curves[0])
        alive, reached = list(range(len(curves))), {}
        for rung, keep in zip(rungs(rule, last), rule.keep, strict=True):
            reached |= dict.fromkeys(alive, rung)
            cells = [Outcome(str(cell), "", cell, "done", value(rung, curves[cell])) for cell in alive]
            alive = sorted(map(int, best(cells, keep, "min")))
        reached |= dict.fromkeys(alive, last)
        return Found(min(alive, key=lambda cell: curves[cell][last]), reached)

    return search


def asha(curves: Sequence[Curve], draw: random.Random) -> Found:
    """Train the cells in a random order, two at a time, by the code that studies use."""
    last = max(curves[0])
    rule = Prune(first=last // 9, factor=3)
    waiting = draw.sample(range(len(curves)), len(curves))
    steps = dict.fromkeys(map(str, waiting), last)
    at = dict.fromkeys(waiting, 0)
    stops = [*rungs(rule, last), last]
    reports: list[RungValue] = []
    running: list[int] = []
    while True:
        out = set(map(int, pruned(reports, steps, rule, "min"))) if reports else set()
        running = [cell for cell in running if cell not in out and at[cell] < last]
        back = [cell for cell in at if 0 < at[cell] < last and cell not in out and cell not in running]
        while len(running) < _AT_ONCE and (back or waiting):
            running.append(back.pop(0) if back else waiting.pop(0))
        if not running:
            break
        cell = running.pop(0)
        at[cell] = next(stop for stop in stops if stop > at[cell])
        reports.append(RungValue(str(cell), at[cell], curves[cell][at[cell]]))
        running.append(cell)
    done = [cell for cell in at if at[cell] == last]
    return Found(min(done, key=lambda cell: curves[cell][last]), at)


def hyperband(curves: Sequence[Curve], draw: random.Random) -> Found:
    """Run the brackets of Li and others (2018) with factor 3, cells drawn at random, at the nearest recorded steps."""
    last, known = max(curves[0]), sorted(step for step in curves[0] if step)
    depth = int(math.log(last / known[0], 3))
    reached: dict[int, int] = {}
    finals = []
    for bracket in range(depth, -1, -1):
        count = math.ceil((depth + 1) / (bracket + 1) * 3**bracket)
        cells = draw.sample(range(len(curves)), min(count, len(curves)))
        for level in range(bracket + 1):
            step = min(known, key=lambda each: abs(each - last * 3.0 ** (level - bracket)))
            reached |= {cell: max(step, reached.get(cell, 0)) for cell in cells}
            cells = sorted(cells, key=lambda cell: curves[cell][step])
            if level < bracket:
                cells = cells[: max(1, len(cells) // 3)]
        finals.append(cells[0])
    return Found(min(finals, key=lambda cell: curves[cell][last]), reached)


def at_random(curves: Sequence[Curve], draw: random.Random) -> Found:
    """Train a third of the cells to their end."""
    last = max(curves[0])
    cells = draw.sample(range(len(curves)), len(curves) // 3)
    return Found(min(cells, key=lambda cell: curves[cell][last]), dict.fromkeys(cells, last))


WAYS: Mapping[str, Way] = {
    _PEER: whole_grid,
    "the same, by means": whole_grid_by_means,
    _OURS: halving(_HALVING),
    "the same, by one validation": halving(_HALVING, lambda rung, curve: curve[rung]),
    "all stop at 2/9": stopped_at_the_rung,
    "Hyperband": hyperband,
    "ASHA": asha,
    "random": at_random,
}


def searched(cells: Sequence[Cell], draws: int, ways: Mapping[str, Way] = WAYS) -> dict[str, list[Draw]]:
    """Return the results of each search, by draw."""
    draw = random.Random(0)
    last, seeds = max(cells[0].curves[0]), len(cells[0].curves)
    means = [statistics.fmean(curve[last] for curve in cell.curves) for cell in cells]
    errors = [statistics.stdev(curve[last] for curve in cell.curves) / math.sqrt(seeds) for cell in cells]
    training, whole = sum(cell.step_flops * last for cell in cells), sum(cell.flops(last) for cell in cells)
    found: dict[str, list[Draw]] = {name: [] for name in ways}
    for _ in range(draws):
        first = [draw.randrange(seeds) for _ in cells]
        others = [(seed + 1 + draw.randrange(seeds - 1)) % seeds for seed in first]
        reference = whole_grid([cell.curves[seed] for cell, seed in zip(cells, first, strict=True)], draw).cell
        mark = means[reference] + errors[reference]
        own = [cell.curves[seed] for cell, seed in zip(cells, others, strict=True)]
        for name, way in ways.items():
            chosen = way(own, draw)
            loss = means[chosen.cell]
            trained = sum(cells[cell].step_flops * step for cell, step in chosen.reached.items())
            spent = sum(cells[cell].flops(step) for cell, step in chosen.reached.items())
            found[name].append(Draw(loss <= mark, trained / training, spent / whole, loss - min(means)))
    return found


def difference(found: Sequence[Draw], peer: Sequence[Draw]) -> tuple[float, float]:
    """The mean of the paired differences of success, and half of its 95 % interval."""
    apart = [float(one.success) - float(other.success) for one, other in zip(found, peer, strict=True)]
    return statistics.fmean(apart), 1.96 * statistics.stdev(apart) / math.sqrt(len(apart))


def without_a_seed(cells: Sequence[Cell], draws: int) -> str:
    """The range of halving's difference to the grid, if one recorded seed is left out."""
    ways, found = {name: WAYS[name] for name in (_PEER, _OURS)}, []
    for seed in range(len(cells[0].curves)):
        fewer = [replace(cell, curves=[*cell.curves[:seed], *cell.curves[seed + 1 :]]) for cell in cells]
        drawn = searched(fewer, draws, ways)
        found.append(difference(drawn[_OURS], drawn[_PEER])[0])
    return f"{min(found):+.2f} to {max(found):+.2f}"


def rows_of(label: str, found: Mapping[str, Sequence[Draw]]) -> list[list[Any]]:
    """A row for each way."""
    peer, rows = found[_PEER], []
    for name, draws in found.items():
        shares = [[draw.training for draw in draws], [draw.whole for draw in draws]]
        spent = [f"{statistics.fmean(each):.3f} ({max(each):.3f})" for each in shares]
        success = f"{statistics.fmean(draw.success for draw in draws):.1%}"
        mean, half = difference(draws, peer)
        above = f"{statistics.fmean(draw.above for draw in draws):.4f}"
        beside = "" if name == _PEER else f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
        rows.append([label, name, *spent, above, success, beside, _GOAL if name == _OURS else ""])
    return rows


def main() -> None:
    """Draw, search, and print the table."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("--draws", type=int, default=4000)
    options = parser.parse_args()
    draws = 20 if options.smoke else options.draws
    rows, left_out = [], []
    for steps in GRIDS:
        cells = read_curves(CURVES / f"{steps}-steps.json")
        rows += rows_of(f"{steps} steps", searched(cells, draws))
        left_out.append(f"{without_a_seed(cells, draws)} ({steps} steps)")
    drawn = f"{len(cells)} cells, {len(cells[0].curves)} recorded seeds; {draws:,} draws of each grid's curves."
    success = (
        "Success: the chosen cell's mean loss is at most one standard error above that of a reference grid's winner, "
        "which searched other seeds; so the whole grid, trained again, does not always succeed. Peer: the grid, "
        "repeated. In brackets: 95 % of the drawing alone, given these curves. Of other seeds, data or models it says "
        f"nothing. Without one of the seeds, {_OURS[:7]}'s difference is {'; '.join(left_out)}."
    )
    goal = (
        "Goal: training FLOPs at most, and the lower bound of that difference at least. It is about training alone: "
        "validations add to the share, and the more the more often a run validates. The curves were recorded with the "
        "weights of tiny before the second part of its pretraining."
    )
    order = (
        "That the mean of validations is compared at a rung was chosen by the curves of 180 steps. Those of 90 steps "
        "were recorded afterwards, on other data and with shorter windows."
    )
    notes = [f"{drawn} FLOPs: official, as a mean, and in brackets the most of a draw.", success, goal, order]
    header = [
        "curves",
        "way",
        "training FLOPs",
        "with validation",
        "loss above the best",
        "success",
        "beside the grid, repeated",
        "goal",
    ]
    print_table(header, rows, notes)


if __name__ == "__main__":
    main()
