"""The time that a run takes: measured on attempts of similar runs, or scaled by FLOPs from the nearest ones. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.control.budget.cost import replay_of_an_interval, work_ahead
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.study.run import canonical_json
from lvjobs.tasks.registry import task_of

START_UP_SECONDS = 300.0
"""The time until the first step, if accounting has not shown it yet: imports, the model, slow file systems."""


@dataclass(frozen=True)
class Pace:
    """The seconds of a step, of a validation window and of a checkpoint.

    `source` is `measured` (on runs with the same settings), `scaled` (by official FLOPs, from the run named `of`), or
    `given` (as FLOPs per second).
    """

    step: float
    window: float
    checkpoint: float
    source: str
    of: str = ""
    start_up: float | None = None
    """The longest time that an execution held its machine beside this work, in seconds; None without accounting."""

    def of_run(self, config: Mapping[str, Any], step: int = 0, stop_at: int = 0) -> float:
        """Return the seconds that a run needs after `step` without interruption: steps, validation, checkpoints.

        `stop_at` is the step at which it stops; 0: at its last one.
        """
        work = work_ahead(config, step, stop_at)
        checkpoints = -(-work.training // int(config.get("checkpoint_every", work.training)))
        return work.training * self.step + work.validation * self.window + checkpoints * self.checkpoint

    def of_interval(self, config: Mapping[str, Any], step: int = 0) -> float:
        """Return the seconds of one checkpoint interval, which a failure after `step` can cost."""
        work = replay_of_an_interval(config, step)
        return work.training * self.step + work.validation * self.window + self.checkpoint


@dataclass(frozen=True)
class Kind:
    """The facts about a run that decide how long its steps take, compared with another's.

    `settings` is one text: runs with equal settings have steps of equal length. `rates` are the official FLOPs of a
    step and of a validation window, 0 if the run trains nothing.
    """

    name: str
    profile: str
    settings: str
    model: str
    rates: tuple[int, int]

    def ratio(self, other: "Kind", at: int) -> float:
        """Return the ratio of this kind's FLOPs to the other's, per step (`at` is 0) or per window (1)."""
        return self.rates[at] / max(1, other.rates[at])


def kind_of(run: RunRecord) -> Kind:
    """Return the kind of a run."""
    params, official = run.config.get("params", {}), run.rates.get("official", {})
    rates = int(official.get("training", 0)), int(official.get("validation", 0))
    settings = [run.profile, run.config.get("threads"), *task_of(run.config).pace_settings(run.config)]
    return Kind(run.name, run.profile, canonical_json(settings), str(params.get("model", "")), rates)


@dataclass(frozen=True)
class Sample:
    """The total times of attempts of runs with equal settings; `kind` is the first run's. Samples can be added."""

    kind: Kind
    steps: int = 0
    step_seconds: float = 0.0
    windows: int = 0
    window_seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    start_up: float | None = None

    def __add__(self, other: "Sample") -> "Sample":
        known = [each for each in (self.start_up, other.start_up) if each is not None]
        return Sample(
            self.kind,
            self.steps + other.steps,
            self.step_seconds + other.step_seconds,
            self.windows + other.windows,
            self.window_seconds + other.window_seconds,
            self.checkpoints + other.checkpoints,
            self.checkpoint_seconds + other.checkpoint_seconds,
            max(known, default=None),
        )

    def pace(self, kind: Kind) -> Pace:
        """Return the pace of a run of this `kind`, scaled by the ratios of its official FLOPs to the sample's."""
        step = self.step_seconds / self.steps
        window = step * self.kind.rates[1] / max(1, self.kind.rates[0])
        if self.windows and self.window_seconds:
            window = self.window_seconds / self.windows
        is_same = kind.settings == self.kind.settings
        return Pace(
            step * (1 if is_same else kind.ratio(self.kind, 0)),
            window * (1 if is_same else kind.ratio(self.kind, 1)),
            self.checkpoint_seconds / max(1, self.checkpoints),
            "measured" if is_same else "scaled",
            "" if is_same else self.kind.name,
            self.start_up,
        )


def samples_of(runs: Iterable[RunRecord], attempts: Iterable[AttemptRecord]) -> dict[str, Sample]:
    """Return the measured samples, by `Kind.settings`."""
    # journals of earlier releases have no seconds
    timed = by_run(attempt for attempt in attempts if attempt.executed and attempt.train_seconds)
    samples: dict[str, Sample] = {}
    for run in runs:
        if timed[run.id] and not task_of(run.config).is_evaluation:
            kind = kind_of(run)
            for attempt in timed[run.id]:
                sample = _sample(kind, attempt)
                samples[kind.settings] = samples[kind.settings] + sample if kind.settings in samples else sample
    return samples


def _sample(kind: Kind, attempt: AttemptRecord) -> Sample:
    start_up = None
    if attempt.allocated_seconds is not None and attempt.sharing == 1:
        working = attempt.train_seconds + attempt.validation_seconds + attempt.checkpoint_seconds
        start_up = max(0.0, attempt.allocated_seconds - working)
    return Sample(
        kind,
        attempt.executed,
        attempt.train_seconds,
        attempt.validation_windows,
        attempt.validation_seconds,
        attempt.checkpoints,
        attempt.checkpoint_seconds,
        start_up,
    )


@dataclass(frozen=True)
class Stopwatch:
    """The measured samples, from which the pace of any run is derived.

    `flops_per_second` (official FLOPs) is for runs whose settings were not measured.
    """

    samples: Mapping[str, Sample]
    flops_per_second: float | None = None

    def pace(self, run: RunRecord) -> Pace | None:
        """Return the run's pace; None if nothing was measured on its cluster, or the run trains nothing."""
        kind = kind_of(run)
        measured = self.samples.get(kind.settings)
        if measured is not None:
            return measured.pace(kind)
        if not kind.rates[0]:
            return None
        if self.flops_per_second:
            step, window = (rate / self.flops_per_second for rate in kind.rates)
            return Pace(step, window, 0.0, "given")
        near = [each for each in self.samples.values() if each.kind.profile == run.profile and each.kind.rates[0]]
        # Another model is farther than any difference in FLOPs.
        distances = [(kind.model != each.kind.model, abs(math.log(kind.ratio(each.kind, 0)))) for each in near]
        return near[distances.index(min(distances))].pace(kind) if near else None


def makespan(seconds: Sequence[float], at_once: int | None) -> float:
    """Return how many seconds runs take that start in order, `at_once` of them side by side (None: all).

    `seconds` are the runs' own times, in their order.
    """
    places = [0.0] * max(1, min(at_once or len(seconds), len(seconds)))
    for duration in seconds:
        first = min(range(len(places)), key=places.__getitem__)
        places[first] += duration
    return max(places)
