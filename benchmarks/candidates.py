"""The recorded candidates that `selecting.py` chooses from: validation metrics and test errors by training seed.

A stage of six candidates (LoRA rank x learning rate) is trained in a real study for each seed, and each run forecasts
held-out series. The file accumulates: seeds may be recorded at different times, in several studies and on several
machines. All runs of a file have the same base model, data and settings; others are refused.

A run takes about 90 CPU seconds with its test. Most of that is forecasts: 32 before the first step, 32 after the last,
then 80 series, 20 at a time.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import lvjobs

RECORDED = Path(__file__).parent / "selecting" / "tiny.json"
RANKS, RATES = (4, 16), (8e-3, 3e-3, 1e-3)
DATA_SEED = 2
_STUDY = """\
profile = "local"
local_slots = {slots}
[train]
model = "tiny"
data = "data.h5"
context_length = 512
batch_size = {batch}
steps = {steps}
checkpoint_every = {steps}
lora_targets = "all-linear"
lora_dropout = 0.0
warmup_steps = {warmup}
validation_limit = {validated}
validation_forecasts = {validated}
[evaluation]
series = {series}
"""
_STAGES = """\
[[stage]]
name = "seed-{seed}"
grid = {{ lora_rank = {ranks}, learning_rate = {rates} }}
set = {{ seed = {seed} }}
[[stage]]
name = "test-{seed}"
evaluate = ["seed-{seed}"]
"""
_DIGITS = ".10g"


@dataclass(frozen=True)
class Sizes:
    """The sizes of a recording. `validated` systems give both validation metrics; `series` are those of the test."""

    systems: int = 1000
    batch: int = 2
    steps: int = 60
    warmup: int = 10
    validated: int = 32
    series: int = 80


SMOKE = Sizes(systems=40, batch=2, steps=2, warmup=1, validated=2, series=2)


@dataclass(frozen=True)
class Trained:
    """A trained candidate: its metrics at the last step, its errors on the held-out series, and its official FLOPs."""

    seed: int
    lora_rank: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    validation_mae: float
    mae: float
    mse: float
    median_mae: float
    training_flops: int
    validation_flops: int
    forecast_flops: int

    @property
    def cell(self) -> tuple[int, float]:
        """Return the candidate's settings."""
        return self.lora_rank, self.learning_rate

    @property
    def key(self) -> tuple[int, int, float]:
        """Return the run's place in the file."""
        return self.seed, *self.cell

    @property
    def flops(self) -> int:
        """Return the FLOPs by which a stage decides between equal candidates."""
        return self.training_flops + self.validation_flops + self.forecast_flops


@dataclass(frozen=True)
class Record:
    """A file's runs, sorted by seed and settings, and the `setup` that they share; empty if nothing is recorded."""

    setup: Mapping[str, Any]
    runs: Sequence[Trained]

    def by_seed(self) -> dict[int, list[Trained]]:
        """Return the runs of each seed that has all of the file's candidates."""
        cells = {run.cell for run in self.runs}
        found: dict[int, list[Trained]] = {}
        for run in self.runs:
            found.setdefault(run.seed, []).append(run)
        return {seed: runs for seed, runs in found.items() if len(runs) == len(cells)}


def read_record(path: Path) -> Record:
    """Read a file of recorded runs."""
    if not path.exists():
        return Record({}, [])
    content = json.loads(path.read_text(encoding="utf-8"))
    return Record(content["setup"], [Trained(**run) for run in content["runs"]])


def write_record(path: Path, record: Record) -> None:
    """Write a file of recorded runs, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = ",\n".join(json.dumps(asdict(run)) for run in record.runs)
    path.write_text(f'{{"setup": {json.dumps(record.setup)},\n"runs": [\n{runs}\n]}}\n', encoding="utf-8")


def merged(old: Record, new: Record) -> Record:
    """Add runs to a record. A run that it has already keeps its values.

    Raises:
        SystemExit: the new runs have another base model, other data or other settings.
    """
    if old.runs and new.runs and old.setup != new.setup:
        keys = sorted(key for key in old.setup | new.setup if old.setup.get(key) != new.setup.get(key))
        raise SystemExit(f"the file's runs differ from these in {', '.join(keys)}: record these in a file of their own")
    known = {run.key: run for run in (*new.runs, *old.runs)}
    return Record(old.setup or new.setup, [known[key] for key in sorted(known)])


def record(root: Path, seeds: Iterable[int], path: Path, slots: int, sizes: Sizes) -> None:
    """Train and test the candidates of each seed that the file lacks, in a study there, and add them to the file.

    The file is written after every few seeds: as many as keep the slots busy. A recording that was interrupted is
    continued by the same command.

    Raises:
        SystemExit: a run did not complete, or does not belong to the file.
    """
    from lvjobs.forecasting.data import make_dataset

    root.mkdir(parents=True, exist_ok=True)
    if not (root / "data.h5").exists():
        make_dataset(root / "data.h5", systems=sizes.systems, seed=DATA_SEED)
    if (root / "runs.db").exists():
        write_record(path, merged(read_record(path), collected(root)))
    missing = [seed for seed in seeds if seed not in read_record(path).by_seed()]
    together = -(-slots // (len(RANKS) * len(RATES)))
    for first in range(0, len(missing), together):
        some = missing[first : first + together]
        stages = (_STAGES.format(seed=seed, ranks=list(RANKS), rates=list(RATES)) for seed in some)
        declared = _STUDY.format(slots=slots, **asdict(sizes)) + "".join(stages)
        (root / "study.toml").write_text(declared, encoding="utf-8")
        lvjobs(root, "sweep", "all", "--wait")
        write_record(path, merged(read_record(path), collected(root)))
        if lacking := set(some) - set(read_record(path).by_seed()):
            raise SystemExit(f"runs of seeds {sorted(lacking)} are not completed; see lvjobs status in {root}")
        print(f"recorded seeds {', '.join(map(str, some))}: {path}", flush=True)


def collected(root: Path) -> Record:
    """Return a study's runs that are trained and tested."""
    with tempfile.TemporaryDirectory() as directory:
        lvjobs(root, "export", directory, "--to", "jsonl", "--force")
        tables = {
            name: [json.loads(line) for line in (Path(directory) / "tables" / f"{name}.jsonl").open(encoding="utf-8")]
            for name in ("runs", "metrics", "charges")
        }
    metrics = {(row["run"], row["kind"], row["metric"], row["step"]): row["value"] for row in tables["metrics"]}
    flops: dict[tuple[str, str], int] = {}
    for row in tables["charges"]:
        flops[row["run"], row["kind"]] = flops.get((row["run"], row["kind"]), 0) + row["flops"]
    done = {run["name"]: run["config"] for run in tables["runs"] if run["state"] == "completed"}
    found = Record({}, [])
    for test, evaluation in done.items():
        if not (adapter := evaluation["params"].get("adapter")):
            continue
        name = Path(adapter).parent.parent.name
        config = done[name]
        scores = json.loads((root / "checkpoints" / test / "final/result/scores.json").read_text(encoding="utf-8"))
        last = {
            f"{kind}_{metric}": metrics[name, kind, metric, config["steps"]]
            for kind, metric in (("training", "loss"), ("validation", "loss"), ("validation", "mae"))
        }
        errors = {each: scores["scores"]["overall"][each] for each in ("mae", "mse")}
        errors["median_mae"] = scores["scores"]["median_mae"]
        run = Trained(
            seed=config["seed"],
            **{key: config["params"][key] for key in ("lora_rank", "learning_rate")},
            **{key: float(format(value, _DIGITS)) for key, value in {**last, **errors}.items()},
            training_flops=flops[name, "useful"],
            validation_flops=flops[name, "validation"],
            forecast_flops=flops[name, "generation"],
        )
        found = merged(found, Record(_setup(config, evaluation), [run]))
    return found


def _setup(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the runs of a file have in common: a run's settings apart from its seed and its candidate's."""
    import lvjobs.forecasting
    from lvjobs.forecasting.data import sha256

    params = {
        key: value for key, value in config["params"].items() if key not in ("data", "lora_rank", "learning_rate")
    }
    weights = Path(lvjobs.forecasting.__file__).parent / params["model"] / "model.safetensors"
    systems = evaluation["params"]["systems"]
    return {**params, "steps": config["steps"], "model_sha256": sha256(weights), "series": len(systems)}
