"""FLOPs until a stage has its winner: successive halving (ASHA) against the whole grid, 27 cells of `tiny`.

    python benchmarks/searching.py DATA.h5 [--steps 180] [--first 20] [--slots 2] [--seeds 5]

The same grid (rank x rate) is swept twice, on the embedded local cluster: every cell to its end, and with
`prune = { first = 20, factor = 3 }`. Then each winner is trained to full length with `--seeds` seeds. Prints the ratio
of the FLOPs that the two sweeps spent by the official rules, and whether the two winners' full-length losses are within
one standard error (the grid winner's) of each other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
grid = {{ lora_rank = [2, 4, 8], learning_rate = [8e-3, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6] }}
{prune}
[[stage]]
name = "seeds"
from = "search"
steps = {steps}
seeds = {seeds}
"""


def lvjobs(root: Path, *typed: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "lvjobs", *typed], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def sweep(data: Path, options: argparse.Namespace, prune: str) -> dict[str, Any]:
    """A whole study: what the search spent, who won, and the winner's losses with each seed."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        seeds = list(range(options.seeds))
        values = {"slots": options.slots, "steps": options.steps, "first": options.first, "seeds": seeds}
        (root / "study.toml").write_text(_STUDY.format(data=json.dumps(str(data)), prune=prune, **values))
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
    """Sweep both ways; print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--first", type=int, default=20, help="steps until cells are first compared")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    data = options.data.resolve()
    prune = f"prune = {{ first = {options.first}, factor = 3 }}"
    found = {name: sweep(data, options, rule) for name, rule in (("ASHA", prune), ("grid", ""))}
    for name, each in found.items():
        losses = ", ".join(f"{loss:.4f}" for loss in each["losses"])
        print(f"{name}: {each['spent']:.4g} FLOPs, {each['paused']} of 27 paused; won {each['settings']}")
        print(f"    its losses, a seed each: {losses}; mean {each['mean']:.5f}, standard error {each['error']:.5f}")
    asha, grid = found["ASHA"], found["grid"]
    apart, error = asha["mean"] - grid["mean"], grid["error"]
    print(
        f"ASHA spends {asha['spent'] / grid['spent']:.3f} of the grid's FLOPs; its winner's loss is {apart:+.5f} away"
    )
    print(f"({'within' if apart <= error else 'beyond'} one standard error of the grid winner's, {error:.5f})")


if __name__ == "__main__":
    main()
