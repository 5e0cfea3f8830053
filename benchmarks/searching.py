"""FLOPs until a stage has its winner: synchronous halving against the grid repeated, Hyperband, ASHA and random search.

    python benchmarks/searching.py [--draws 4000] [--smoke]
    python benchmarks/searching.py --record STUDY --steps 90   # trains a grid in a new study, and writes its curves

`benchmarks/curves` has recorded validation losses of grids of 27 cells of `tiny` (rank x rate), each trained to its end
with 5 seeds: 180 steps on windows of 512 tokens, and 90 on windows of 256, on other data. That the mean of validations
is compared at a rung was chosen by the first; the second was recorded afterwards.

Each draw takes, for every cell, one seed for a reference grid, and one of the others for all ways that are compared:
they search the same curves. The reference grid's winner sets the mark: its mean loss over all seeds, and the standard
error of that. A way succeeds if the mean loss of the cell that it chose is at most one standard error above. So the
whole grid, trained again with other seeds, does not always succeed: it is the peer.
"""

import json
import math
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measuring import command_line, lvjobs, print_table

from lvjobs.study.stages import Prune
from lvjobs.sweep.pruning import RungValue, best, pruned, rungs, value_at
from lvjobs.sweep.selection import Outcome

CURVES = Path(__file__).parent / "curves"
_STUDY = """\
profile = "local"
[train]
model = "tiny"
data = "data.h5"
context_length = {context}
batch_size = 2
lora_targets = "all-linear"
lora_dropout = 0.0
checkpoint_every = {every}
validation_limit = 16
warmup_steps = {warmup}
[evaluation]
series = 0
[[stage]]
name = "grid"
steps = {steps}
seeds = [0, 1, 2, 3, 4]
grid = {{ lora_rank = [2, 4, 8], learning_rate = [8e-3, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6] }}
"""
_GRIDS = {
    180: {"context": 512, "every": 20, "warmup": 10, "data_seed": 0},
    90: {"context": 256, "every": 10, "warmup": 5, "data_seed": 1},
}
"""The recorded grids, by the steps of a run."""
_PEER, _OURS = "the grid, repeated", "halving: the best 3 at 2/9"
_GOAL = "1/3, -.02"
_HALVING = Prune(rule="halving", at=["2/9"], keep=[3])
_AT_ONCE = 2

Curve = Mapping[int, float]


@dataclass(frozen=True)
class Found:
    """What a way chose: the cell, and the step to which it trained each cell."""

    cell: int
    reached: Mapping[int, int]


Way = Callable[[Sequence[Curve], random.Random], Found]


@dataclass(frozen=True)
class Cell:
    """A cell of the recorded grid: its curves by seed, and the FLOPs of a step and of a validation."""

    curves: Sequence[Curve]
    step_flops: int
    validation_flops: int

    def flops(self, step: int) -> int:
        """The FLOPs of its run until a step: training, and a validation at each recorded step."""
        validations = sum(each <= step for each in self.curves[0])
        return self.step_flops * step + self.validation_flops * validations if step else 0


@dataclass(frozen=True)
class Draw:
    """What a way did in one draw: whether it succeeded, and its shares of the whole grid's FLOPs."""

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
    """What each way did, by draw."""
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


def record(root: Path, steps: int) -> None:
    """Train a grid in a study there, and write its curves."""
    from lvjobs.forecasting.data import make_dataset

    grid = _GRIDS[steps]
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "study.toml").exists():
        make_dataset(root / "data.h5", systems=1000, seed=grid["data_seed"])
        (root / "study.toml").write_text(_STUDY.format(steps=steps, **grid), encoding="utf-8")
    lvjobs(root, "sweep", "grid", "--wait")
    write_curves(root, CURVES / f"{steps}-steps.json")


def write_curves(root: Path, path: Path) -> None:
    """Write the validation losses of a study's completed runs by cell, seed and step, and what a step of a cell costs.

    `step_flops` are official FLOPs of a training step, `validation_flops` those of one validation.
    """
    with tempfile.TemporaryDirectory() as directory:
        lvjobs(root, "export", directory, "--to", "jsonl", "--force")
        tables = {
            name: [json.loads(line) for line in (Path(directory) / "tables" / f"{name}.jsonl").open(encoding="utf-8")]
            for name in ("runs", "metrics", "charges")
        }
    losses: dict[str, dict[str, float]] = defaultdict(dict)
    for row in tables["metrics"]:
        if (row["kind"], row["metric"]) == ("validation", "loss"):
            losses[row["run"]][str(row["step"])] = round(row["value"], 6)
    costs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for row in tables["charges"]:
        costs[row["run"]][row["kind"]][0] += row["flops"]
        costs[row["run"]][row["kind"]][1] += row["units"]
    cells: dict[tuple[int, float], dict[str, Any]] = {}
    for run in tables["runs"]:
        if run["state"] != "completed":
            continue
        params, cost = run["config"]["params"], costs[run["name"]]
        rank, rate = params["lora_rank"], params["learning_rate"]
        cell = cells.setdefault((rank, rate), {"lora_rank": rank, "learning_rate": rate, "losses": {}})
        cell["step_flops"] = cost["useful"][0] // cost["useful"][1]
        cell["validation_flops"] = cost["validation"][0] // cost["validation"][1] * params["validation_limit"]
        cell["losses"][str(run["config"]["seed"])] = losses[run["name"]]
    text = json.dumps([cells[key] for key in sorted(cells)], indent=None, separators=(",", ":"))
    path.write_text(text.replace('},{"lora_rank', '},\n{"lora_rank') + "\n", encoding="utf-8")


def read_curves(path: Path) -> list[Cell]:
    """A recorded grid."""
    return [
        Cell(
            [{int(step): loss for step, loss in curve.items()} for curve in cell["losses"].values()],
            cell["step_flops"],
            cell["validation_flops"],
        )
        for cell in json.loads(path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    """Draw, search, and print the table."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--record", type=Path, metavar="STUDY")
    parser.add_argument("--steps", type=int, choices=_GRIDS, default=180)
    options = parser.parse_args()
    if options.record is not None:
        record(options.record, options.steps)
        return
    draws = 20 if options.smoke else options.draws
    rows, left_out = [], []
    for steps in _GRIDS:
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
    goal = "Goal: training FLOPs at most, and the lower bound of that difference at least."
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
