"""The recorded curves that `searching.py` draws from: validation losses of a grid whose cells have several seeds each.

python benchmarks/recorded.py STUDY [--steps 90]     # trains a grid in a new study, and writes its curves
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import lvjobs

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
GRIDS = {
    180: {"context": 512, "every": 20, "warmup": 10, "data_seed": 0},
    90: {"context": 256, "every": 10, "warmup": 5, "data_seed": 1},
}
"""The recorded grids, by the steps of a run."""

Curve = Mapping[int, float]


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


def record(root: Path, steps: int) -> None:
    """Train a grid in a study there, and write its curves."""
    from lvjobs.forecasting.data import make_dataset

    grid = GRIDS[steps]
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
    """Train a grid, and write its curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--steps", type=int, choices=GRIDS, default=180)
    options = parser.parse_args()
    record(options.study, options.steps)


if __name__ == "__main__":
    main()
