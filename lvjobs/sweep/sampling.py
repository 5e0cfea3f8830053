"""The next points of a stage's space: Optuna's samplers, run again on everything that was proposed and learned.

The ledger keeps what was proposed, and what was known then, as a history in its order. Each trial is drawn with a seed
of its own number, so the same history always gives the same proposal, with any number of restarts in between.
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
"""The significant digits of a sampled number: as few as name it within 0.1 % of its range, so that people can read it.
"""


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a trial, as the sampler learns it.

    `done` has a value; `pruned` has its last value, at `step`; `diverged`: its value is NaN or infinite; `left_out`:
    nothing is known about its point (it was cancelled, or has no value where the rule looks for it).
    """

    kind: Literal["done", "pruned", "diverged", "left_out"]
    value: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Trial:
    """A proposed point; `verdict` is None while the trial is open."""

    point: Mapping[str, Any]
    verdict: TrialOutcome | None = None


@dataclass(frozen=True)
class SearchRecord:
    """The ledger's record of a stage's search: the proposed points and the verdicts, in order.

    A trial's number is its place among the points. An entry has a `point`; or a `trial`'s number, and its `verdict`
    with `value` and `step` (see `TrialOutcome`). `identity` tells searches apart (`Request.search_identity`).
    """

    stage: str
    identity: str = ""
    entries: Sequence[Mapping[str, Any]] = ()

    @property
    def trials(self) -> list[Trial]:
        """Return all proposed trials, by their numbers."""
        found: list[Trial] = []
        for entry in self.entries:
            if "point" in entry:
                found.append(Trial(entry["point"]))
            else:
                outcome = TrialOutcome(entry["verdict"], entry["value"], entry["step"])
                found[entry["trial"]] = replace(found[entry["trial"]], verdict=outcome)
        return found

    def proposed(self, points: Iterable[Mapping[str, Any]]) -> "SearchRecord":
        """Return the record with these points added."""
        return replace(self, entries=(*self.entries, *({"point": dict(point)} for point in points)))

    def told(self, verdicts: Mapping[int, TrialOutcome]) -> "SearchRecord":
        """Return the record with these verdicts added, by the trials' numbers."""
        added = (
            {"trial": number, "verdict": outcome.kind, "value": outcome.value, "step": outcome.step}
            for number, outcome in verdicts.items()
        )
        return replace(self, entries=(*self.entries, *added))


def verdict(cells: Sequence[Outcome], last: Mapping[str, tuple[int, float]]) -> TrialOutcome:
    """Return the result of the trial that has these cells (one per seed), none of which is open or held.

    `last` is, by run, the last value and the step that it was at, as (step, value).
    """
    standings = {cell.standing for cell in cells}
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
    """Return how many more trials may be proposed now. `waits` are numbers of open trials that take no place."""
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
    """Return the next `count` points after `trials`; each point counts as open for the points after it.

    `mode` is `min` or `max`. `model` tells which keys of the space are whole numbers.
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
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # later releases are silent by default
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
    """Return the trial as Optuna's. A diverged trial is pruned without a value: that ranks it last."""
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
    """Return a number sampled from a continuous range, rounded to its significant digits."""
    if not isinstance(values, Range) or not isinstance(value, float):
        return value
    if values.step is not None:
        return float(f"{value:.12g}")  # 0.1 + 2 * 0.1
    near = (float(f"{value:.{digits}g}") for digits in _DIGITS)
    found = next(each for each in near if abs(each - value) <= (values.high - values.low) / 1000)
    return min(max(found, values.low), values.high)
