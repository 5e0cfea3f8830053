"""From a death to the first step: what an attempt that resumes does before it trains, against HF Trainer's resume.

    python benchmarks/startup.py [--model both] [--context-length 128] [--repetitions 5] [--smoke]

A run is killed after a checkpoint (SIGKILL) and started again, as a job's script starts it; the peer is HF Trainer with
PEFT, on the same model, systems, rank and batch, killed and resumed by `resume_from_checkpoint` alike, whose chunks are
tokenised beforehand. Counted are the seconds from the start of the process to the end of its first new step, less what
a step takes, so what a first step takes longer than later ones is in them; and until a run of lvjobs has claimed its
directory, checked its checkpoint and written its journal's first line. Files are in the page cache, bytecode is
compiled, nothing is downloaded; one thread. Two models: the bundled `tiny`, and one as wide as Qwen2.5-0.5B with a
quarter of its layers and random weights (0.9 GB of fp32). The share is of what 250 steps,
from one checkpoint to the next, take.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import alternate, command_line, print_table, trainers_python, version_of
from peers.tuning import random_weights

from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.study.layout import RunLayout
from lvjobs.study.params import TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig, RunFile

_PEER = Path(__file__).parent / "peers" / "resume_hf.py"
_INTERVAL = 250
_SECONDS = 600.0
_BATCH, _RANK = 2, 4


def whole_lines(paths: list[Path]) -> list[dict[str, Any]]:
    """Their whole lines, each a JSON object."""
    texts = [path.read_text(encoding="utf-8") for path in paths if path.exists()]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass
class Resuming:
    """A training that was killed after a checkpoint, and how it is started again."""

    command: list[str]
    lines: Callable[[], list[dict[str, Any]]]
    """All that was told by all of its processes."""
    log: Path
    steps: int
    """How many each new process makes."""
    claimed: list[float] = field(default_factory=list)
    a_step: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Start it; kill it when it has made its steps; seconds until the first of them."""
        before = len(self.lines())
        began = time.time()
        new = self._run(lambda new: sum(line["kind"] == "step" for line in new) >= self.steps, before)
        made = [line for line in new if line["kind"] == "step"]
        usual = statistics.median(line["seconds"] for line in made[1:])
        self.a_step.append(usual)
        self.claimed += [line["time"] - began for line in new if line["kind"] == "start"]
        return float(made[0]["time"] - began - usual)

    def prepare(self, is_saved: Callable[[], bool]) -> None:
        """Train until there is a checkpoint."""
        self._run(lambda _: is_saved(), 0)

    def _run(self, is_over: Callable[[list[dict[str, Any]]], bool], before: int) -> list[dict[str, Any]]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "LVJOBS"))}
        kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with self.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(self.command, env=kept, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while not is_over(self.lines()[before:]):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise SystemExit(
                    f"{' '.join(self.command)} made no steps:\n{self.log.read_text(encoding='utf-8')[-3000:]}"
                )
            time.sleep(0.02)
        process.kill()
        process.wait()
        return self.lines()[before:]


def ours(params: dict[str, Any], root: Path, steps: int) -> Resuming:
    """A run of lvjobs, as it is prepared for a job."""
    layout = RunLayout(root)
    root.mkdir()
    config = RunConfig(task=TRAIN_TASK, steps=10**6, checkpoint_every=2, validate_every=10**6, params=params)
    run = RunFile(id="0", name=root.name, stage="", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json(), encoding="utf-8")

    def lines() -> list[dict[str, Any]]:
        return whole_lines(sorted(layout.journals.glob("*.jsonl")))

    found = Resuming([sys.executable, "-m", "lvjobs.worker", str(root)], lines, root.with_suffix(".log"), steps)
    found.prepare(lambda: any(line["kind"] == "checkpoint" for line in lines()))
    return found


def peer(python: Path, params: dict[str, Any], root: Path, steps: int) -> Resuming:
    """HF Trainer, on chunks that are tokenised."""
    root.mkdir()
    told, output = root / "steps.jsonl", root / "output"
    job = {"model": params["model"], "chunks": str(root / "chunks.npy"), "rank": _RANK, "batch": _BATCH}
    job |= {"output": str(output), "steps": str(told)}
    (root / "job.json").write_text(json.dumps(job), encoding="utf-8")
    np.save(root / "chunks.npy", chunks_of(params))

    def lines() -> list[dict[str, Any]]:
        return whole_lines([told])

    found = Resuming([str(python), str(_PEER), str(root / "job.json")], lines, root / "log", steps)
    found.prepare(lambda: len(lines()) > 2)  # noqa: PLR2004 - a checkpoint comes after two
    oldest, *others = sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    if not (oldest / "trainer_state.json").exists():
        raise SystemExit(f"{oldest}: the peer's checkpoint is not whole")
    for other in others:  # the kill may have come in the midst of one
        shutil.rmtree(other)
    return found


def chunks_of(params: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The windows that a run of lvjobs trains on: (ids, attention, labels), chunks, tokens."""
    from lvjobs.forecasting.models import load_base
    from lvjobs.forecasting.tokens import Characters
    from lvjobs.forecasting.windows import codec_of, training_windows

    config = TrainingConfig(**params)
    codec, (_, tokenizer) = codec_of(config), load_base(config)
    table = Characters(tokenizer, config.model, codec)
    windows = training_windows(load_dataset(Path(config.data)), codec, table, config, tokenizer.pad_token_id or 0)
    return np.stack([windows.ids, windows.attention, windows.labels])


def compare(name: str, model: str, asked: argparse.Namespace, work: Path, python: Path) -> list[list[str]]:
    """Its rows."""
    params = {"model": model, "data": str(work / "data.h5"), "context_length": asked.context_length}
    params |= {"batch_size": _BATCH, "lora_rank": _RANK, "quantization": "none"}
    ways = {
        "HF Trainer + PEFT": peer(python, params, work / f"{name}-peer", asked.steps),
        "lvjobs": ours(params, work / f"{name}-ours", asked.steps),
    }
    for way in ways.values():
        way()  # what is compiled and cached once is not measured
        way.claimed.clear()
        way.a_step.clear()
    median = alternate(ways, asked.repetitions)
    base, step = median["HF Trainer + PEFT"], {way: statistics.median(made.a_step) for way, made in ways.items()}
    return [
        [
            name,
            way,
            f"{statistics.median(ways[way].claimed):.1f}" if ways[way].claimed else "",
            f"{seconds:.1f}",
            f"{step[way]:.2f}",
            f"{seconds / (_INTERVAL * step[way]):.1%}",
            f"{seconds / base:.2f}",
            "0.5" if way == "lvjobs" else "",
        ]
        for way, seconds in median.items()
    ]


def main() -> None:
    """Each model both ways; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--model", choices=["both", "tiny", "wide"], default="both")
    parser.add_argument("--context-length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="that each new process makes")
    asked = parser.parse_args()
    if asked.smoke:
        asked.model, asked.repetitions, asked.steps = "tiny", 1, 2
    python = trainers_python()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_dataset(work / "data.h5", systems=1000, seed=0)
        if asked.model in ("both", "tiny"):
            rows += compare("tiny", str(TINY_DIRECTORY), asked, work, python)
        if asked.model in ("both", "wide"):
            rows += compare("wide", random_weights("Qwen2.5-0.5B", work, layers=6), asked, work, python)
    note = (
        f"Peer: {version_of(python, 'transformers')}. Context {asked.context_length}, batch {_BATCH}, rank {_RANK}, "
        f"1,000 systems, one thread; seconds of the clock, medians of {asked.repetitions}. Share: of {_INTERVAL} steps."
    )
    header = ["model", "way", "claimed, s", "to the first step, s", "a step, s", "share", "ratio", "goal"]
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
