"""How long a run takes: from what attempts of such runs took, or scaled by FLOPs from the nearest. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.control.cost import work_ahead
from lvjobs.ledger.records import Attempt, Run
from lvjobs.study.run import canonical_json
from lvjobs.study.training import TRAIN_TASK, TrainingConfig

_SAME = (
    "model",
    "batch_size",
    "accumulate",
    "context_length",
    "lora_rank",
    "lora_targets",
    "precision",
    "quantization",
    "gradient_checkpointing",
    "compile",
)
"""What two runs have in common whose steps take equally long, if they use the same cluster and number of threads."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a step, of a validation window and of a checkpoint.

    `source`: `measured` with runs of the same settings; `scaled` by official FLOPs from a run named `of`; or `given`,
    as FLOPs a second.
    """

    step: float
    window: float
    checkpoint: float
    source: str
    of: str = ""
    start_up: float | None = None
    """The longest that an execution held its machine without such work; None where no accounting told."""

    def of_run(self, config: Mapping[str, Any], step: int = 0) -> float:
        """Seconds of what a run still has to do after `step` if nothing interrupts: steps, validation, checkpoints."""
        work = work_ahead(config, step)
        checkpoints = -(-work.training // int(config.get("checkpoint_every", work.training)))
        return work.training * self.step + work.validation * self.window + checkpoints * self.checkpoint


@dataclass
class _Sample:
    """What the attempts of runs with the same settings took together."""

    run: Run
    steps: int = 0
    step_seconds: float = 0.0
    windows: int = 0
    window_seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    start_up: float | None = None

    def add(self, attempt: Attempt) -> None:
        """Pool another attempt."""
        self.steps += attempt.executed
        self.step_seconds += attempt.train_seconds
        self.windows += attempt.validation_windows
        self.window_seconds += attempt.validation_seconds
        self.checkpoints += attempt.checkpoints
        self.checkpoint_seconds += attempt.checkpoint_seconds
        if attempt.allocated_seconds is not None and attempt.sharing == 1:
            working = attempt.train_seconds + attempt.validation_seconds + attempt.checkpoint_seconds
            self.start_up = max(self.start_up or 0.0, attempt.allocated_seconds - working)

    def pace(self, run: Run) -> Pace:
        """Of a run, by the ratios of its official FLOPs to this one's."""
        step = self.step_seconds / self.steps
        window = step * _rate(self.run, "validation") / _rate(self.run, "training")
        if self.windows and self.window_seconds:
            window = self.window_seconds / self.windows
        is_same = _settings(run) == _settings(self.run)
        return Pace(
            step * _ratio(run, self.run, "training"),
            window * _ratio(run, self.run, "validation"),
            self.checkpoint_seconds / max(1, self.checkpoints),
            "measured" if is_same else "scaled",
            "" if is_same else self.run.name,
            self.start_up,
        )


class Stopwatch:
    """What is known of how long steps take."""

    def __init__(self, runs: Iterable[Run], attempts: Iterable[Attempt], flops_per_second: float | None = None) -> None:
        """`flops_per_second` (official ones) stands in where runs of the same settings were not measured."""
        by_run: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            if attempt.executed and attempt.train_seconds:  # journals of earlier releases told no seconds
                by_run[attempt.run_id].append(attempt)
        samples: dict[tuple[Any, ...], _Sample] = {}
        for run in runs:
            if by_run[run.id] and _rate(run, "training"):
                sample = samples.setdefault(_settings(run), _Sample(run))
                for attempt in by_run[run.id]:
                    sample.add(attempt)
        self._samples = samples
        self._flops_per_second = flops_per_second

    def pace(self, run: Run) -> Pace | None:
        """How fast the run goes; None where nothing was measured on its cluster, or it trains nothing."""
        if not _rate(run, "training"):
            return None
        measured = self._samples.get(_settings(run))
        if measured is not None:
            return measured.pace(run)
        if self._flops_per_second:
            step, window = (_rate(run, kind) / self._flops_per_second for kind in ("training", "validation"))
            return Pace(step, window, 0.0, "given")
        near = [sample for sample in self._samples.values() if sample.run.profile == run.profile]
        return min(near, key=lambda sample: _distance(run, sample.run)).pace(run) if near else None


def makespan(seconds: Sequence[float], at_once: int | None) -> float:
    """How long runs take that start in order, `at_once` of them side by side (None: all)."""
    places = [0.0] * max(1, min(at_once or len(seconds), len(seconds)))
    for duration in seconds:
        first = min(range(len(places)), key=places.__getitem__)
        places[first] += duration
    return max(places)


def _settings(run: Run) -> tuple[Any, ...]:
    params = run.config.get("params", {})
    if (task := run.config.get("task", TRAIN_TASK)) != TRAIN_TASK:  # all that a task of one's own takes may matter
        return (run.profile, run.config.get("threads"), task, canonical_json(params))
    # A run that was declared before there was such a key is one with its default.
    same = (params.get(key, TrainingConfig.model_fields[key].default) for key in _SAME)
    return (run.profile, run.config.get("threads"), *same)


def _distance(run: Run, other: Run) -> tuple[bool, float]:
    """Another model is farther away than any other size of step."""
    models = [each.config.get("params", {}).get("model") for each in (run, other)]
    return models[0] != models[1], abs(math.log(_ratio(run, other, "training")))


def _ratio(run: Run, other: Run, kind: str) -> float:
    return _rate(run, kind) / max(1, _rate(other, kind))


def _rate(run: Run, kind: str) -> int:
    return int(run.rates.get("official", {}).get(kind, 0))
