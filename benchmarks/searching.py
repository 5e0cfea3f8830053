"""FLOPs until a stage has its winner: successive halving (ASHA) against the whole grid, 27 cells of `tiny`.

    python benchmarks/searching.py [DATA.h5] [--steps 180] [--first 20] [--slots 2] [--seeds 5] [--smoke]

The same grid (rank x rate) is swept twice, on the embedded local cluster: every cell to its end, and with
`prune = { first = 20, factor = 3 }`. Then each winner is trained to full length with `--seeds` seeds. The table
has the FLOPs that the two sweeps spent, by the official rules, and the winners' full-length losses; the line below says
whether they are within one standard error (the grid winner's) of each other. Without a file, 1000 systems are made.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from measuring import command_line, lvjobs, print_table

from lvjobs.forecasting.data import make_dataset

_STUDY = """\
profile = "local"
local_slots = {slots}
[train]
model = "tiny"
data = {data}
context_length = 512
batch_size = 2
lora_targets = "all-linear"
lora_dropout = 0.0
checkpoint_every = {first}
validation_limit = 16
[evaluation]
series = 0
[[stage]]
name = "search"
steps = {steps}
grid = {{ lora_rank = {ranks}, learning_rate = {rates} }}
{prune}
[[stage]]
name = "seeds"
from = "search"
steps = {steps}
seeds = {seeds}
"""


_GOAL = "1/3"
_RANKS, _RATES = [2, 4, 8], [8e-3, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6]


def sweep(data: Path, options: argparse.Namespace, prune: str) -> dict[str, Any]:
    """A whole study: what the search spent, who won, and the winner's losses with each seed."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        seeds = list(range(options.seeds))
        values = {"slots": options.slots, "steps": options.steps, "first": options.first, "seeds": seeds}
        values |= {"ranks": options.ranks, "rates": options.rates}
        (root / "study.toml").write_text(
            _STUDY.format(data=json.dumps(str(data)), prune=prune, **values), encoding="utf-8"
        )
        lvjobs(root, "sweep", "search")
        lvjobs(root, "watch", "--every", "1")
        spent = json.loads(lvjobs(root, "budget", "--json"))["by_stage"]["search"]
        won = json.loads(lvjobs(root, "sweep", "show", "search", "--json"))
        lvjobs(root, "sweep", "seeds", "--wait")
        shown = json.loads(lvjobs(root, "sweep", "show", "seeds", "--json"))["candidates"][0]
        states = [
            run["state"] for run in json.loads(lvjobs(root, "status", "--json"))["runs"] if run["stage"] == "search"
        ]
    return {
        "spent": spent,
        "settings": won["candidates"][0]["settings"],
        "paused": states.count("paused"),
        "losses": shown["values"],
        "mean": shown["value"],
        "error": shown["standard_error"],
    }


def main() -> None:
    """Sweep both ways; print the table."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--first", type=int, default=20, help="steps until cells are first compared")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    options.ranks, options.rates = _RANKS, _RATES
    if options.smoke:
        options.steps, options.first, options.seeds, options.ranks, options.rates = 4, 1, 2, [2], [8e-3, 1e-3]
    prune = f"prune = {{ first = {options.first}, factor = 3 }}"
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data
        if data is None:
            data = Path(scratch) / "data.h5"
            make_dataset(data, systems=40 if options.smoke else 1000)
        data = data.resolve()
        found = {name: sweep(data, options, rule) for name, rule in (("grid", ""), ("ASHA", prune))}
    grid, asha = found["grid"], found["ASHA"]
    rows = [
        [
            name,
            f"{each['spent']:.3g}",
            f"{each['spent'] / grid['spent']:.3f}",
            _GOAL if each is asha else "",
            each["paused"],
            ", ".join(f"{key} {value:g}" for key, value in each["settings"].items()),
            f"{each['mean']:.5f} ({each['error']:.5f})",
        ]
        for name, each in found.items()
    ]
    apart = asha["mean"] - grid["mean"]
    words = f"{apart:+.5f}, {'within' if apart <= grid['error'] else 'beyond'} one standard error of the grid winner's"
    cells = len(options.ranks) * len(options.rates)
    notes = [
        f"Peer: the whole grid, of {cells} cells. In brackets: standard errors, of {options.seeds} seeds.",
        f"From the grid winner's mean loss to ASHA's: {words}.",
    ]
    header = ["way", "FLOPs", "of the grid's", "goal", "paused", "winner", "its loss at full length"]
    print_table(header, rows, notes)


if __name__ == "__main__":
    main()
