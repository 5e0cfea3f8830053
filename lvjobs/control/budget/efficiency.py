"""How well the machines were used: GPU-hours, goodput, effective training time ratio. Pure; seconds unless it says so.

Goodput: useful step time / allocated time. Useful step time is an attempt's useful steps (`charges_of`) times the mean
time of its steps; allocated is what the cluster held for us, start-up, validation, checkpoints and lost steps included.

ETTR, the effective training time ratio, is the measure of Kokolis et al., "Revisiting Reliability in Large-Scale
Machine Learning Research Clusters" (HPCA 2025, arXiv:2410.21680): the productive part of the wall-clock time that a
run, all its jobs taken together, had, queueing included. Productive is useful step time; the wall-clock time is here
all that passed from the run's creation to its end, or to now, so also what it spent held, paused or waiting for FLOPs.
Of several runs it is the ratio of the sums: a long run weighs more than a short one.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs.cluster.backends import LOCAL
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.budget.intervals import Advice
from lvjobs.ledger.records import AttemptRecord, RunRecord

_HOUR = 3600.0


@dataclass(frozen=True)
class Share:
    """What some runs held and made of it. Adds up.

    `attempts` are executions, `estimated` those of them whose time or number of GPUs is not accounting's word: they
    still run, the site keeps no accounts, or its word came too late. `used` are seconds in steps and validations.
    """

    runs: int = 0
    attempts: int = 0
    estimated: int = 0
    allocated: float = 0.0
    allocated_gpu: float = 0.0
    used_gpu: float = 0.0
    useful: float = 0.0
    wall: float = 0.0

    def __add__(self, other: "Share") -> "Share":
        return Share(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def goodput(self) -> float | None:
        """Useful step time over allocated time; None where nothing was allocated."""
        return self.useful / self.allocated if self.allocated else None

    @property
    def ettr(self) -> float | None:
        """Useful step time over wall-clock time; None where no time has passed."""
        return self.useful / self.wall if self.wall else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: hours, and ratios between 0 and 1 or null."""
        return {
            "runs": self.runs,
            "attempts": self.attempts,
            "estimated": self.estimated,
            "allocated_gpu_hours": _hours(self.allocated_gpu),
            "used_gpu_hours": _hours(self.used_gpu),
            "allocated_hours": _hours(self.allocated),
            "useful_hours": _hours(self.useful),
            "wall_hours": _hours(self.wall),
            "goodput": _rounded(self.goodput),
            "ettr": _rounded(self.ettr),
        }


@dataclass(frozen=True)
class Efficiency:
    """Of a study, of each of its stages, and what its deaths say about the interval between checkpoints."""

    by_stage: Mapping[str, Share] = field(default_factory=dict)
    advice: Sequence[Advice] = ()

    @property
    def total(self) -> Share:
        """Of the whole study."""
        return sum(self.by_stage.values(), Share())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the study's figures, `by_stage` the same of each stage, `checkpoint_advice`."""
        return {
            **self.total.to_dict(),
            "by_stage": {stage: share.to_dict() for stage, share in self.by_stage.items()},
            "checkpoint_advice": [item.to_dict() for item in self.advice],
        }


def shares_of(
    runs: Sequence[RunRecord],
    attempts: Mapping[str, Sequence[AttemptRecord]],
    now: float,
    profile_gpus: Mapping[str, int],
) -> dict[str, Share]:
    """What the runs of each stage held up to `now`, and made of it.

    `attempts` are each run's (by its id, oldest first, as the ledger has them). `profile_gpus` are the GPUs that a job
    gets where the run does not say, by `RunRecord.submitted_by`: they count where accounting does not tell.
    """
    by_stage: dict[str, Share] = defaultdict(Share)
    for run in runs:
        asked = _gpus_asked(run, profile_gpus)
        by_stage[run.stage] += _share(run, attempts.get(run.id, ()), asked, now)
    return dict(by_stage)


def _gpus_asked(run: RunRecord, profile_gpus: Mapping[str, int]) -> int:
    """The GPUs of a job of this run. The local backend hands none out, whatever it is asked for."""
    if run.profile == LOCAL:
        return 0
    return int(run.resources.get("gpus", profile_gpus.get(run.submitted_by, 0)))


def _share(run: RunRecord, attempts: Sequence[AttemptRecord], asked: int, now: float) -> Share:
    kept: dict[int, int] = defaultdict(int)
    for charge in charges_of(run, attempts):
        kept[charge.attempt_id] += charge.units if charge.kind == "useful" else 0
    executions = estimated = 0
    allocated = allocated_gpu = used_gpu = useful = 0.0
    last = {attempt.execution: attempt for attempt in attempts}
    for attempt in attempts:
        gpus, is_told = _gpus(attempt, asked)
        at_once = _at_once(run, attempt)
        useful += kept[attempt.id] * attempt.train_seconds / attempt.executed if attempt.executed else 0.0
        used_gpu += (attempt.train_seconds + attempt.validation_seconds) * gpus / at_once
        if last[attempt.execution] is attempt:  # what an execution held is counted once
            held = attempt.allocated_seconds
            is_told = is_told and held is not None
            if held is None:
                held = _guess(run, attempt, now) / at_once
            executions += 1
            estimated += not is_told
            allocated += held * at_once
            allocated_gpu += held * gpus
    return Share(
        runs=1,
        attempts=executions,
        estimated=estimated,
        allocated=allocated,
        allocated_gpu=allocated_gpu,
        used_gpu=used_gpu,
        useful=useful,
        wall=_wall(run, attempts, now),
    )


def _gpus(attempt: AttemptRecord, asked: int) -> tuple[int, bool]:
    """An execution's GPUs, and whether accounting says so.

    Where it says none and some were asked for, the site keeps no account of GPUs: no such job starts without them.
    """
    if attempt.gpus or (attempt.gpus == 0 and not asked):
        return attempt.gpus, True
    return asked, attempt.allocated_seconds == 0  # it never began: no matter how many


def _at_once(run: RunRecord, attempt: AttemptRecord) -> int:
    """How many runs trained side by side in its job: each held a place there, and a part of its GPUs."""
    asked = int(run.resources.get("side_by_side") or 1)
    return asked if attempt.allocated_seconds is None else max(1, min(asked, attempt.sharing))


def _guess(run: RunRecord, attempt: AttemptRecord, now: float) -> float:
    """How long an execution held its allocation, where accounting does not say.

    Its end may have been noticed long after; but no job outlives its time limit, and none is shorter than what it did.
    """
    seconds = (now if attempt.ended is None else attempt.ended) - attempt.started
    if minutes := run.resources.get("time_limit_minutes"):
        seconds = min(seconds, 60.0 * minutes)
    return max(seconds, attempt.train_seconds + attempt.validation_seconds + attempt.checkpoint_seconds)


def _wall(run: RunRecord, attempts: Sequence[AttemptRecord], now: float) -> float:
    """The run's age, or how old it was when it ended."""
    if not run.state.is_final:
        return max(0.0, now - run.created)
    return max([0.0, *(end_of(attempt, now) - run.created for attempt in attempts)])


def end_of(attempt: AttemptRecord, now: float) -> float:
    """When an attempt ended, `now` where it goes on: a pass may have noticed long after its job was over."""
    ended = now if attempt.ended is None else attempt.ended
    held = attempt.allocated_seconds
    return ended if held is None else min(ended, attempt.started + held * attempt.sharing)  # all that the job had


def _hours(seconds: float) -> float:
    return round(seconds / _HOUR, 6)


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 6)
