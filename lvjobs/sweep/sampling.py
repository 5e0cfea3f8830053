"""Which points of a stage's space are tried next: Optuna's samplers, asked anew from all that was proposed and learned.

What was proposed, and what was known then, is a history that the ledger keeps, in its order. Each trial is drawn with a
seed of its own number, so the same history gives the same proposal for ever, whatever restarts lie between.
"""

import hashlib
import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from lvjobs.study.settings import TrainSettings
from lvjobs.study.space import Range, Search, Values, number_of
from lvjobs.sweep.selection import Outcome

if TYPE_CHECKING:
    import optuna

_DIGITS = range(4, 18)
"""Of a number that is drawn: as few as name it within a thousandth of its range, so that people can read it."""


@dataclass(frozen=True)
class TrialOutcome:
    """What became of a trial, as the sampler learns it.

    `done` with a value; `pruned` with the last value that it had, at a step; `diverged`: its value is no number;
    `left_out`: nothing can be said of its point (it was cancelled, or has no value where the rule looks).
    """

    kind: Literal["done", "pruned", "diverged", "left_out"]
    value: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Trial:
    """A point that was proposed; `verdict` is None while it is open."""

    point: Mapping[str, Any]
    verdict: TrialOutcome | None = None


@dataclass(frozen=True)
class SearchHistory:
    """What was proposed and what was learned, in the order in which it was; a trial's number is its place among points.

    An entry is a point, or a trial's number with its verdict.
    """

    entries: Sequence[Mapping[str, Any] | tuple[int, TrialOutcome]] = ()

    @property
    def trials(self) -> list[Trial]:
        """All that were proposed, by their numbers."""
        found: list[Trial] = []
        for entry in self.entries:
            if isinstance(entry, Mapping):
                found.append(Trial(entry))
            else:
                number, verdict = entry
                found[number] = replace(found[number], verdict=verdict)
        return found

    def proposed(self, points: Iterable[Mapping[str, Any]]) -> "SearchHistory":
        """With these points."""
        return SearchHistory((*self.entries, *points))

    def told(self, verdicts: Mapping[int, TrialOutcome]) -> "SearchHistory":
        """With these verdicts, by the trials' numbers."""
        return SearchHistory((*self.entries, *verdicts.items()))

    def to_json(self) -> list[Any]:
        """As the ledger keeps it."""
        return [
            {"point": dict(entry)}
            if isinstance(entry, Mapping)
            else {"trial": entry[0], "verdict": entry[1].kind, "value": entry[1].value, "step": entry[1].step}
            for entry in self.entries
        ]

    @classmethod
    def from_json(cls, kept: Iterable[Mapping[str, Any]]) -> "SearchHistory":
        """What `to_json` wrote."""
        return cls(
            [
                each["point"]
                if "point" in each
                else (each["trial"], TrialOutcome(each["verdict"], each["value"], each["step"]))
                for each in kept
            ]
        )


def verdict(cells: Sequence[Outcome], last: Mapping[str, tuple[int, float]]) -> TrialOutcome | None:
    """What became of the trial whose cells (one a seed) stand so; None while it is open.

    A held cell is open: what infrastructure did says nothing about a point. `last` is, by run, the last value that it
    had, and at which step.
    """
    standings = {cell.standing for cell in cells}
    if standings & {"open", "held"}:
        return None
    if "cancelled" in standings:
        return TrialOutcome("left_out")
    if "pruned" in standings:
        reached = [last[cell.run_id] for cell in cells if cell.standing == "pruned" and cell.run_id in last]
        if not reached:
            return TrialOutcome("left_out")
        step, value = min(reached, key=lambda each: each[0])
        return TrialOutcome("pruned", value, step) if math.isfinite(value) else TrialOutcome("diverged")
    values = [cell.value for cell in cells if cell.value is not None]
    if len(values) < len(cells):
        return TrialOutcome("left_out")
    return (
        TrialOutcome("done", statistics.fmean(values)) if all(map(math.isfinite, values)) else TrialOutcome("diverged")
    )


def room(search: Search, trials: Sequence[Trial], waits: Iterable[int] = ()) -> int:
    """How many more may be proposed now. `waits` are numbers of open trials that take no place."""
    passed_over = set(waits)
    open_ = sum(trial.verdict is None and number not in passed_over for number, trial in enumerate(trials))
    return max(0, min(search.at_once - open_, search.trials - len(trials)))


def propose(
    space: Mapping[str, Values],
    search: Search,
    mode: str,
    trials: Sequence[Trial],
    count: int,
    model: type[BaseModel] = TrainSettings,
) -> list[dict[str, Any]]:
    """The next `count` points, which come after `trials`; of each, those before it count as open.

    `model` says which keys of the space are whole numbers.
    """
    known = list(trials)
    for _ in range(count):
        known.append(Trial(_next(space, search, mode, known, model)))
    return [dict(trial.point) for trial in known[len(trials) :]]


def _next(
    space: Mapping[str, Values], search: Search, mode: str, trials: Sequence[Trial], model: type[BaseModel]
) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(key, values, model) for key, values in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # what later releases do by default
        study = optuna.create_study(
            direction="minimize" if mode == "min" else "maximize", sampler=_sampler(search, len(trials))
        )
        if search.sampler != "random":
            for trial in trials:
                study.add_trial(_as_optuna_has_it(trial, distributions))
        found = study.ask(distributions).params
    return {key: _readable(found[key], values) for key, values in space.items()}


def _sampler(search: Search, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    seed = int.from_bytes(hashlib.sha256(f"{search.seed}/{number}".encode()).digest()[:4], "big")
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.first, multivariate=True, constant_liar=True)


def _distribution(key: str, values: Values, model: type[BaseModel]) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if number_of(model, key) is int:
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _as_optuna_has_it(
    trial: Trial, distributions: "Mapping[str, optuna.distributions.BaseDistribution]"
) -> "optuna.trial.FrozenTrial":
    """A trial that diverged is pruned before it had any value: worse than all that are, and so are points near it."""
    import optuna

    states = optuna.trial.TrialState
    known = trial.verdict or TrialOutcome("left_out")
    state = {"done": states.COMPLETE, "pruned": states.PRUNED, "diverged": states.PRUNED, "left_out": states.FAIL}
    return optuna.create_trial(
        state=states.RUNNING if trial.verdict is None else state[known.kind],
        params=dict(trial.point),
        distributions=dict(distributions),
        value=known.value if known.kind == "done" else None,
        intermediate_values={known.step or 0: known.value}
        if known.kind == "pruned" and known.value is not None
        else {},
    )


def _readable(value: Any, values: Values) -> Any:
    """A number that was drawn from a continuous range, with the digits that matter in it."""
    if not isinstance(values, Range) or not isinstance(value, float):
        return value
    if values.step is not None:
        return float(f"{value:.12g}")  # 0.1 + 2 * 0.1
    near = (float(f"{value:.{digits}g}") for digits in _DIGITS)
    found = next(each for each in near if abs(each - value) <= (values.high - values.low) / 1000)
    return min(max(found, values.low), values.high)
