"""A run of lvjobs by its worker: left alone, and killed with SIGKILL and resumed. Start-up times, and the bits."""

import hashlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from card.asking import PartFailed

from lvjobs.study.layout import RunLayout
from lvjobs.study.params import TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig, RunFile

_POLL = 0.005


class Worker:
    """A run's directory, and its attempts so far."""

    def __init__(self, root: Path, params: dict[str, Any], steps: int, deadline: float) -> None:
        self.layout, self.steps, self.deadline = RunLayout(root), steps, deadline
        root.mkdir(parents=True)
        config = RunConfig(
            task=TRAIN_TASK, steps=steps, checkpoint_every=steps // 2, validate_every=steps, params=params
        )
        run = RunFile(id="0", name=root.name, stage="", fingerprint=config.fingerprint, config=config)
        self.layout.config.write_text(run.model_dump_json(), encoding="utf-8")

    def attempt(self, *, killed: bool = False) -> dict[str, float]:
        """Start the worker and wait for its end, or kill it two steps after its checkpoint.

        Returns:
            Seconds: until it claimed the run, until its first step ended (less an ordinary step), and of a step.

        Raises:
            PartFailed: It ended otherwise than it should, or there was no time left.
        """
        before, log = len(self._lines()), self.layout.root / "log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "LVJOBS"))}
        began = time.time()
        with log.open("w", encoding="utf-8") as stream:
            command = [sys.executable, "-m", "lvjobs.worker", str(self.layout.root)]
            process = subprocess.Popen(command, env=kept, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        while process.poll() is None:
            if killed and self.executed() >= self.steps // 2 + 2:
                process.send_signal(signal.SIGKILL)
                break
            if time.monotonic() > self.deadline:
                process.kill()
                process.wait()
                raise PartFailed("stopped: its time was used up")
            time.sleep(_POLL)
        code, new = process.wait(), self._lines()[before:]
        if code != (-signal.SIGKILL if killed else 0):
            raise PartFailed(self._why(code, new, log))
        ended = [line["time"] for line in new if line["kind"] == "step"]
        a_step = statistics.median(after - earlier for earlier, after in itertools.pairwise(ended))
        claimed = next(line["time"] for line in new if line["kind"] == "start")
        return {"claimed": claimed - began, "first": ended[0] - began - a_step, "step": a_step}

    def result(self) -> tuple[str, list[float]]:
        """Return the SHA-256 of the adapter, and the loss of each step as it was last executed."""
        (adapter,) = self.layout.final.rglob("adapter_model.safetensors")
        losses = {line["step"]: _loss(line) for line in self._lines() if line["kind"] == "step"}
        return hashlib.sha256(adapter.read_bytes()).hexdigest(), [losses[step] for step in sorted(losses)]

    def executed(self) -> int:
        """Return how many steps all attempts together have made."""
        return sum(line["kind"] == "step" for line in self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        paths = sorted(self.layout.journals.glob("*.jsonl"))
        texts = [path.read_text(encoding="utf-8") for path in paths]
        return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def _why(self, code: int, new: list[dict[str, Any]], log: Path) -> str:
        if code == 0:
            return f"the worker finished its {self.steps} steps before it was killed"
        said = [line for line in new if line["kind"] == "error"]
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        words = said[-1].get("message") if said else None
        return f"the worker ended with exit code {code}: {words or (tail or ['no message'])[-1]}"[:400]


def resume(root: Path, config: TrainingConfig, steps: int, deadline: float) -> dict[str, Any]:
    """Run it straight, and killed after step `steps` / 2 and resumed; compare.

    Raises:
        PartFailed: A worker failed.
    """
    params = config.model_dump()
    straight, broken = (Worker(root / name, params, steps, deadline) for name in ("straight", "resumed"))
    new = straight.attempt()
    broken.attempt(killed=True)
    lost = broken.executed() - steps // 2
    resumed = broken.attempt()
    (one, losses), (other, others) = straight.result(), broken.result()
    pairs = enumerate(zip(losses, others, strict=True), 1)
    parted = next((step for step, (left, right) in pairs if left != right), None)
    return {"new": new, "resumed": resumed, "same": one == other, "parted": parted, "steps": steps, "repeated": lost}


def _loss(line: dict[str, Any]) -> float:
    return float(next(line[key] for key in ("loss", "loss_numeric") if key in line))
