"""The use of the machines: GPU-hours, goodput, effective training time ratio (ETTR). Pure; seconds unless named.

Goodput is useful step time / allocated time. Useful step time is an attempt's useful steps (`charges_of`) times the
mean time of its steps. Allocated time is what the cluster held for the job; it includes start-up, validation,
checkpoints and lost steps.

ETTR is the measure of Kokolis et al., "Revisiting Reliability in Large-Scale Machine Learning Research Clusters" (HPCA
2025, arXiv:2410.21680): the productive part of a run's wall-clock time, over all its jobs, queueing included. The
productive part is useful step time. The wall-clock time here runs from the run's creation to its end, or to now. It
includes the time that the run was held, paused or waiting for FLOPs. For several runs, ETTR is the ratio of the sums:
a long run weighs more than a short one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.cluster.backends import backend_of
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.budget.intervals import Advice
from lvjobs.ledger.records import AttemptRecord, RunRecord

_HOUR = 3600.0


@dataclass(frozen=True)
class Share:
    """The time that some runs held, and how they used it. Shares can be added.

    `attempts` counts executions. `estimated` counts those whose time or GPUs are not from accounting: they still run,
    the site keeps no accounts, or its answer came too late. `used_gpu` is GPU-seconds in steps and validations.
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
        return _total((self, other))

    @property
    def goodput(self) -> float | None:
        """Return useful step time over allocated time; None where nothing was allocated."""
        return self.useful / self.allocated if self.allocated else None

    @property
    def ettr(self) -> float | None:
        """Return useful step time over wall-clock time; None where no time has passed."""
        return self.useful / self.wall if self.wall else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: hours, and ratios between 0 and 1 (None where there is none)."""
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


def efficiency_of(by_stage: Mapping[str, Share], advice: Sequence[Advice]) -> dict[str, Any]:
    """Return the study's figures, each stage's in `by_stage`, and `checkpoint_advice`, as JSON (docs/json.md)."""
    return {
        **sum(by_stage.values(), Share()).to_dict(),
        "by_stage": {stage: share.to_dict() for stage, share in by_stage.items()},
        "checkpoint_advice": [item.to_dict() for item in advice],
    }


def shares_of(
    runs: Sequence[RunRecord],
    attempts: Mapping[str, Sequence[AttemptRecord]],
    now: float,
    profile_gpus: Mapping[str, int],
) -> dict[str, Share]:
    """Return each stage's share, up to `now` (seconds since the epoch).

    `attempts` are by run id, oldest first, as the ledger has them. `profile_gpus` are the GPUs that a job gets by
    default, by `RunRecord.submitted_by`. They count where accounting has no number and the run asks for none.
    """
    by_stage: dict[str, list[Share]] = defaultdict(list)
    for run in runs:
        asked = gpus_requested(run, profile_gpus)
        by_stage[run.stage].append(share_of(run, attempts.get(run.id, ()), asked, now))
    return {stage: _total(shares) for stage, shares in by_stage.items()}


def _total(shares: Iterable[Share]) -> Share:
    return Share(*map(sum, zip(*(vars(share).values() for share in shares), strict=True)))


def gpus_requested(run: RunRecord, profile_gpus: Mapping[str, int]) -> int:
    """Return the GPUs that a job of this run asks for. The local backend allocates none, whatever is asked for."""
    if not backend_of(run.profile).is_site:
        return 0
    gpus = int(run.resources.get("gpus", profile_gpus.get(run.submitted_by, 0)))
    return gpus * int(run.resources.get("nodes") or 1)


def share_of(run: RunRecord, attempts: Sequence[AttemptRecord], asked: int, now: float) -> Share:
    """Return the share of one run up to `now`: what these attempts held, of jobs that ask for `asked` GPUs."""
    kept: dict[int, int] = defaultdict(int)
    for charge in charges_of(run, attempts):
        kept[charge.attempt_id] += charge.units if charge.kind == "useful" else 0
    executions = estimated = 0
    allocated = allocated_gpu = used_gpu = useful = 0.0
    last = {attempt.execution: attempt for attempt in attempts}
    for attempt in attempts:
        gpus, is_known = _gpus(attempt, asked)
        at_once = _at_once(run, attempt)
        useful += kept[attempt.id] * attempt.train_seconds / attempt.executed if attempt.executed else 0.0
        used_gpu += (attempt.train_seconds + attempt.validation_seconds) * gpus / at_once
        if last[attempt.execution] is attempt:  # count what an execution held once
            held = attempt.allocated_seconds
            is_known = is_known and held is not None
            if held is None:
                held = _guess(run, attempt, now) / at_once
            executions += 1
            estimated += not is_known
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
    """Return an execution's GPUs, and whether the number is certain.

    If accounting has 0 GPUs although the job asked for some, the site does not account for GPUs: such a job does not
    start without them.
    """
    if attempt.gpus or (attempt.gpus == 0 and not asked):
        return attempt.gpus, True
    return asked, attempt.allocated_seconds == 0  # it never began: its GPUs do not matter


def _at_once(run: RunRecord, attempt: AttemptRecord) -> int:
    """Return how many runs trained side by side in its job: each had one place there, and a part of its GPUs."""
    asked = int(run.resources.get("side_by_side") or 1)
    return asked if attempt.allocated_seconds is None else max(1, min(asked, attempt.sharing))


def _guess(run: RunRecord, attempt: AttemptRecord, now: float) -> float:
    """Estimate how long an execution held its allocation, in seconds, where accounting has no answer.

    A pass may have noticed its end late. So the time limit bounds the estimate from above, and the attempt's measured
    work bounds it from below.
    """
    seconds = (now if attempt.ended is None else attempt.ended) - attempt.started
    if minutes := run.resources.get("time_limit_minutes"):
        seconds = min(seconds, 60.0 * minutes)
    return max(seconds, attempt.train_seconds + attempt.validation_seconds + attempt.checkpoint_seconds)


def _wall(run: RunRecord, attempts: Sequence[AttemptRecord], now: float) -> float:
    """Return the run's age in seconds, now or when it ended."""
    if not run.state.is_final:
        return max(0.0, now - run.created)
    return max([0.0, *(end_of(attempt, now) - run.created for attempt in attempts)])


def end_of(attempt: AttemptRecord, now: float) -> float:
    """Return when an attempt ended, or `now` if it still runs (seconds since the epoch).

    A pass may have noticed the end late, so the end is no later than the time that accounting has for the job.
    """
    ended = now if attempt.ended is None else attempt.ended
    held = attempt.allocated_seconds
    return ended if held is None else min(ended, attempt.started + held * attempt.sharing)  # the job's whole time


def _hours(seconds: float) -> float:
    return round(seconds / _HOUR, 6)


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 6)
