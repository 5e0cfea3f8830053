"""The verdict on a rehearsal: whether a run resumes, and how near its result is to that of an undisturbed run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from lvjobs.records.curves import LOSSES, resumed_step, value_at
from lvjobs.records.journal import Entry
from lvjobs.rehearsal.differences import Difference, RunResult, differences

Verdict: TypeAlias = Literal["bitwise", "within_tolerance", "differs", "does_not_resume", "untested"]

_MOST = 0.5
"""The share of the result's bytes that is equal in all runs, above which they train equally whatever their metrics
say: lines without a step get the one that was read before, which may differ."""

_SCHEDULED = frozenset(f"step's {name}" for name in ("lr", "learning_rate", "epoch"))
"""Metrics that are equal in all runs, however they train."""

_MORE = "; raise --rehearsed-steps or --minutes"

_ORDER: Sequence[Verdict] = ("untested", "bitwise", "within_tolerance", "differs", "does_not_resume")
"""The verdicts from the best to the worst, for several disturbed runs: one that was tested counts."""


@dataclass(frozen=True)
class FinalMetric:
    """The last value of a metric: undisturbed, disturbed, and of the second undisturbed run if there was one."""

    name: str
    alone: float
    disturbed: float
    again: float | None = None

    @property
    def apart(self) -> float:
        """Return the relative distance of the disturbed run; 0 for equal values, also where both are no number."""
        return _apart(self.alone, self.disturbed)

    @property
    def own_apart(self) -> float | None:
        """Return the relative distance of two undisturbed runs; None where there was one."""
        return None if self.again is None else _apart(self.alone, self.again)


def _apart(one: float, other: float) -> float:
    if repr(one) == repr(other):
        return 0.0
    return abs(one - other) / abs(one) if one else float("inf")


@dataclass(frozen=True)
class Judgement:
    """The verdict and its evidence.

    Attributes:
        verdict: The verdict.
        reason: Why the run was not compared; empty where it was.
        differences: The differences from the undisturbed run that two undisturbed runs do not have.
        notes: Files and metrics that were not compared, in words.
        equal_metrics: The number of metrics that are equal at all steps, in all runs.
        equal_files: The number of files of the result that are equal in all runs.
        metric: The metric at the end; None where no loss is reported.
        is_deterministic: False if two undisturbed runs train differently; None where only one was trained.
        since: The attempt that reported the first difference, and the step that it resumed from.
    """

    verdict: Verdict
    reason: str = ""
    differences: Sequence[Difference] = ()
    notes: Sequence[str] = ()
    equal_metrics: int = 0
    equal_files: int = 0
    metric: FinalMetric | None = None
    is_deterministic: bool | None = None
    since: tuple[int, int] | None = None


@dataclass(frozen=True)
class Disturbed:
    """The disturbed run: its result, its row (docs/json.md), its attempts' journals, and the faults that met it."""

    result: RunResult
    row: Mapping[str, Any]
    attempts: Sequence[Sequence[Entry]]
    met: Mapping[str, int] = field(default_factory=dict)
    checkpoint_every: int = 1


def failure_of(disturbed: Disturbed) -> Judgement | None:
    """Return the verdict on a run that did not resume, or that no fault tested; None if it is to be compared."""
    row = disturbed.row
    if row["state"] != "completed":
        return Judgement("does_not_resume", f"{row['state']} at step {row['step']}: {why_not(row, disturbed.attempts)}")
    if not disturbed.met:
        return Judgement("untested", f"no fault was injected: the run ended too soon{_MORE}")
    resumed = [attempt for attempt in map(_beginning, disturbed.attempts) if attempt and attempt[0]]
    lowest = min((step for attempt in disturbed.attempts if (step := _first_step(attempt)) is not None), default=1)
    for given, step in resumed:
        if step is not None and step <= lowest < given:
            return Judgement("does_not_resume", f"it got the checkpoint of step {given}, but began at step {step}")
    for attempt in disturbed.attempts:
        given = (_beginning(attempt) or (0, None))[0]
        saved = [int(entry.fields["step"]) for entry in attempt if entry.kind == "checkpoint"]
        if saved and saved[0] < given:  # of a program whose output shows no step
            return Judgement(
                "does_not_resume", f"it got the checkpoint of step {given}, but wrote that of step {saved[0]} again"
            )
    if not resumed:
        longest = max((len(_steps(attempt)) for attempt in disturbed.attempts[:-1]), default=0)
        if longest > 2 * disturbed.checkpoint_every:
            return Judgement(
                "does_not_resume", f"an attempt executed {longest} steps, and none of its checkpoints was published"
            )
        return Judgement("untested", f"nothing was resumed: each fault came before the first checkpoint{_MORE}")
    return None


def why_not(row: Mapping[str, Any], attempts: Sequence[Sequence[Entry]]) -> str:
    """Return why a run was not completed: its last error, else its cause.

    The row's own reason ends with a command for the run, and nobody can type that in a study that a rehearsal makes.
    """
    errors = [entry.fields for attempt in attempts for entry in attempt if entry.kind == "error"]
    return f"{errors[-1]['type']}: {errors[-1]['message']}" if errors else str(row["cause"] or "it has no cause")


def judge(
    alone: RunResult, disturbed: Disturbed, again: RunResult | None, tolerance: float, *, is_program: bool
) -> Judgement:
    """Return the verdict on a run that completed.

    Args:
        alone: The undisturbed result.
        disturbed: The disturbed run.
        again: The result of a second undisturbed run; None if there was none.
        tolerance: The relative distance of the last loss up to which the results count as near.
        is_program: Whether files are those of a program, which may also be logs.
    """
    found, notes = differences(alone, disturbed.result, is_program=is_program)
    own, _ = differences(alone, again, is_program=is_program) if again is not None else ([], [])
    equal = alone.equal_files(disturbed.result)
    metric = _final(alone, disturbed.result, again)
    kept, is_deterministic = found, None
    if again is not None:
        equal &= alone.equal_files(again)
        names = {each.what for each in own}
        kept = [each for each in found if each.what not in names]
        is_deterministic = not own or _is_training_equal(alone, own, equal, metric)
        if is_deterministic:
            notes = [*notes, *(f"{each.what} differs in every run" for each in own)]
    metrics = (alone.metrics | disturbed.result.metrics) - {each.what for each in [*found, *own]}
    shown = kept if is_deterministic else kept or found
    if not (shown or equal or metrics):
        return Judgement("untested", "there is nothing to compare: it reports no metrics, and leaves no files")
    is_near = metric is not None and metric.apart <= tolerance and tolerance > 0
    return Judgement(
        "bitwise" if not shown else "within_tolerance" if is_near else "differs",
        differences=shown,
        notes=notes,
        equal_metrics=len(metrics),
        equal_files=len(equal),
        metric=metric,
        is_deterministic=is_deterministic,
        since=_since(disturbed.attempts, next((each.step for each in shown if each.step is not None), None)),
    )


def _is_training_equal(
    alone: RunResult, own: Collection[Difference], equal: Collection[str], metric: FinalMetric | None
) -> bool:
    """Return whether undisturbed runs train equally, although something differs in each of them."""
    if metric is None and alone.metrics:
        return bool(alone.metrics - {each.what for each in own} - _SCHEDULED)
    is_loss_equal = metric is not None and not any(each.is_of_a_loss for each in own)
    return is_loss_equal or alone.share_of(equal) > _MOST


def worst(found: Iterable[Judgement]) -> Judgement:
    """Return the first of the worst verdicts on several disturbed runs; of equal ones, that with the farthest loss."""
    return max(found, key=lambda each: (_ORDER.index(each.verdict), each.metric.apart if each.metric else 0.0))


def _final(alone: RunResult, disturbed: RunResult, again: RunResult | None) -> FinalMetric | None:
    """Return the last loss of validations; else of steps; else None."""
    for kind in ("validation", "step"):
        values = alone.curves.values[kind]
        for name in sorted(values, key=lambda name: (name not in LOSSES, name)):
            ours, theirs = (
                value_at(result.curves.values[kind].get(name, {}), "last", "min") for result in (alone, disturbed)
            )
            if "loss" in name and ours is not None and theirs is not None:
                third = None if again is None else value_at(again.curves.values[kind].get(name, {}), "last", "min")
                shown = name if kind == "step" or name not in LOSSES else f"validation {name}"
                return FinalMetric(shown, ours, theirs, third)
    return None


def _since(attempts: Sequence[Sequence[Entry]], step: int | None) -> tuple[int, int] | None:
    """Return the attempt whose value of a step counts, and the step that it resumed from."""
    found = None
    for number, attempt in enumerate(attempts, start=1):
        begun = _beginning(attempt)
        if step is not None and begun is not None and begun[0] < step:
            found = (number, begun[0]) if step in _steps(attempt) else found
    return found


def _beginning(attempt: Collection[Entry]) -> tuple[int, int | None] | None:
    """Return the step that an attempt resumed from (0: none), and its first own step; None if it never began."""
    start = next((entry for entry in attempt if entry.kind == "start"), None)
    return None if start is None else (resumed_step(start), _first_step(attempt))


def _first_step(attempt: Collection[Entry]) -> int | None:
    return next(iter(_steps(attempt)), None)


def _steps(attempt: Collection[Entry]) -> list[int]:
    return [int(entry.fields["step"]) for entry in attempt if entry.kind == "step"]
