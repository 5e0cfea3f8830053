"""The cells of a stage that are not worth their remaining steps. Pure.

By `halving`, all cells wait at a rung, and the best few continue (synchronous successive halving: Jamieson and
Talwalkar, AISTATS 2016, arXiv:1502.07943). The other rules are Optuna's pruners, run again on all reports.

A report is a cell's value at a rung; reports are in the order in which reconcile passes found them. A cell is compared
with the reports before its own, so the order decides. The ledger keeps it, and the same reports always give the same
verdicts.

Optuna's successive halving checks a cell once, when it reaches a rung. So the first cells continue because there is
nothing to compare with, and a better cell that came between them does not. ASHA as published (Li et al., 2018,
arXiv:1810.05934) resumes a cell once enough worse ones have come. So does this module: a paused cell has its
checkpoint.
"""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from lvjobs.errors import UsageError
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Prune, Stage
from lvjobs.sweep.selection import Outcome, grouped

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class RungValue:
    """The value that a cell (its run's id) had at a rung's step."""

    run_id: str
    step: int
    value: float


@dataclass(frozen=True)
class Pruner:
    """One of Optuna's ways of pruning.

    Attributes:
        rungs: (rule, steps of a run) -> the steps before the last one at which cells are compared.
        of_optuna: The pruner of Optuna that compares them.
        bar: What a cell must not be worse than, in words; `rule` has the keys of the table `prune`.
        takes_back: Whether a pruned cell continues once it is among the best 1/`factor` of a rung.
    """

    rungs: Callable[[Prune, int], list[int]]
    of_optuna: "Callable[[Prune], optuna.pruners.BasePruner]"
    bar: str
    takes_back: bool = False


def _multiples(rule: Prune, steps: int) -> list[int]:
    return list(range(_first(rule), steps, _first(rule)))


def _powers(rule: Prune, steps: int) -> list[int]:
    found, step = [], _first(rule)
    while step < steps:
        found.append(step)
        step *= rule.factor
    return found


def _median(rule: Prune) -> "optuna.pruners.BasePruner":
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=0, n_warmup_steps=_first(rule) - 1)


def _successive_halving(rule: Prune) -> "optuna.pruners.BasePruner":
    import optuna

    return optuna.pruners.SuccessiveHalvingPruner(min_resource=_first(rule), reduction_factor=rule.factor)


def _first(rule: Prune) -> int:
    assert rule.first is not None, "validated with the rule"
    return rule.first


PRUNERS: Mapping[str, Pruner] = MappingProxyType(
    {
        "successive_halving": Pruner(_powers, _successive_halving, "the best 1/{rule.factor}", takes_back=True),
        "median": Pruner(_multiples, _median, "the median"),
    }
)
"""Optuna's pruners, by `Prune.rule`."""


def bar(rule: Prune) -> str:
    """Return what a cell must not be worse than at a rung, in words."""
    return PRUNERS[rule.rule].bar.format(rule=rule)


def rungs(rule: Prune, steps: int) -> list[int]:
    """Return the steps at which cells are compared; not the last step, because no work is left to save there."""
    if rule.rule == "halving":
        return [round(share * steps) for share in rule.shares]
    return PRUNERS[rule.rule].rungs(rule, steps)


def first_rung(stage: Stage, steps: int) -> int:
    """Return the step at which a new run of the stage stops and waits for the others; 0: it goes to its last one."""
    return rungs(stage.prune, steps)[0] if stage.prune is not None and stage.prune.rule == "halving" else 0


def value_at(rung: int, curve: Mapping[int, float]) -> float | None:
    """Return what `halving` compares: the mean of the values from half of the rung's step on. None: nothing is there.

    One validation of a run that still learns says less: docs/benchmarks.md has both.
    """
    if rung not in curve:
        return None
    return statistics.fmean(value for step, value in curve.items() if rung <= 2 * step <= 2 * rung)


def best(cells: Sequence[Outcome], keep: int, mode: str) -> set[str]:
    """Return the ids of the cells that continue from a rung: those of the `keep` best candidates.

    Args:
        cells: The cells that are compared, in the order of declaration; `value` is what each had at the rung.
        keep: How many candidates continue. Of equal ones the first declared.
        mode: `min` or `max`.

    A candidate's value is the mean over its cells, which differ in their seed alone. One without a finite value does
    not continue.
    """
    sign = 1 if mode == "min" else -1
    ranked = []
    for group in grouped(cells):
        values = [math.nan if cell.value is None else cell.value for cell in group]
        if math.isfinite(mean := sum(values) / len(values)):
            ranked.append((sign * mean, [cell.run_id for cell in group]))
    ranked.sort(key=lambda each: each[0])
    return {run_id for _, ids in ranked[:keep] for run_id in ids}


def dearest(rule: Prune, steps: Sequence[int], price: Callable[[int, int], int], seeds: int) -> int:
    """Return the most that runs cost by `halving`: all go to the first rung, and the dearest ones continue from each.

    Args:
        rule: The rule of their stage.
        steps: The steps of each run.
        price: (place of a run in `steps`, step at which it stops; 0: its last) -> its cost from its beginning on.
        seeds: The runs of a candidate.
    """
    stops = [[*rungs(rule, each), 0] for each in steps]
    total = sum(price(place, own[0]) for place, own in enumerate(stops))
    for level, keep in enumerate(rule.keep):
        more = [price(place, own[level + 1]) - price(place, own[level]) for place, own in enumerate(stops)]
        total += sum(sorted(more, reverse=True)[: keep * seeds])
    return total


def _other_rung(rule: Prune, step: int, every: int, steps: int, key: str) -> str:
    """Return what to change where no checkpoint or validation falls on a rung: a share, or the interval."""
    if rule.rule != "halving":
        return f"choose prune.first as a multiple of it, or another {key}"
    near = sorted({place for place in (step // every * every, -(-step // every) * every) if 0 < place < steps})
    shares = " or ".join(f'"{Fraction(place, steps)}" (step {place})' for place in near)
    return f"choose prune.at = {shares}, or {key} = {step}" if near else f"choose {key} = {step}"


def check_rungs(stage: Stage, configs: Iterable[RunConfig]) -> None:
    """Refuse rungs at which a run has no checkpoint to resume from, or no validation to be judged by.

    Raises:
        UsageError: the message names the stage, the rung, and the key of [train] that does not fit.
    """
    if stage.prune is None:
        return
    configs = list(configs)
    candidates = len({config.candidate for config in configs})
    if stage.prune.rule == "halving" and 1 < candidates <= stage.prune.keep[0]:
        raise UsageError(
            f"study.toml: stage {stage.name} has {candidates} candidates, and prune.keep = {stage.prune.keep}: no run "
            "would stop; keep fewer, or leave prune out"
        )
    for config in configs:
        found = rungs(stage.prune, config.steps)
        if len({0, *found, config.steps}) != len(found) + 2:
            raise UsageError(
                f"study.toml: stage {stage.name} would compare its runs of {config.steps} steps at {found}: choose "
                "prune.at so that these are steps between the first and the last, or more steps"
            )
        for step in found:
            for key, every in (
                ("checkpoint_every", config.checkpoint_every),
                ("validate_every", config.validate_every or config.checkpoint_every),
            ):
                if step % every:
                    raise UsageError(
                        f"study.toml: stage {stage.name} compares its runs at step {step}, and {key} = {every}: "
                        + _other_rung(stage.prune, step, every, config.steps, key)
                    )


def new_reports(
    curves: Mapping[str, Mapping[int, float]], steps: Mapping[str, int], known: Sequence[RungValue], rule: Prune
) -> list[RungValue]:
    """Return the values in `curves` (the metric, by run) that are not `known`, early steps first.

    Only values at rungs and at a run's end count. `steps` are the runs' last steps, by run.
    """
    told = {(report.run_id, report.step) for report in known}
    found = [
        RungValue(run_id, step, curve[step])
        for run_id, curve in curves.items()
        for step in (*rungs(rule, steps[run_id]), steps[run_id])
        if step in curve and (run_id, step) not in told
    ]
    return sorted(found, key=lambda report: report.step)


def pruned(reports: Sequence[RungValue], steps: Mapping[str, int], rule: Prune, mode: str) -> dict[str, RungValue]:
    """Return the cells that are not worth continuing now, and the report that showed it.

    `steps` are the runs' last steps, by run; `mode` is `min` or `max`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="minimize" if mode == "min" else "maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),  # it samples nothing: the cells are given
        pruner=PRUNERS[rule.rule].of_optuna(rule),
    )
    trials: dict[str, optuna.Trial] = {}
    found: dict[str, RungValue] = {}
    there: dict[int, dict[str, float]] = defaultdict(dict)
    skipped: dict[str, list[RungValue]] = defaultdict(list)
    to_come = deque(reports)
    while to_come:
        report = to_come.popleft()
        if report.run_id in found:  # the user resumed it: its later values do not change the comparison of the others
            skipped[report.run_id].append(report)
            continue
        if report.run_id not in trials:
            trials[report.run_id] = study.ask()
        trial = trials[report.run_id]
        is_last = report.step == steps[report.run_id]
        if not math.isfinite(report.value):  # no pruner handles such a value
            if not is_last:
                found[report.run_id] = report
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        trial.report(report.value, report.step)
        if is_last:
            study.tell(trial, report.value)
            continue
        if trial.should_prune():
            found[report.run_id] = report
        there[report.step][report.run_id] = report.value
        if PRUNERS[rule.rule].takes_back:
            for run_id in _best(there[report.step], rule.factor, mode):
                if run_id in found and found[run_id].step == report.step:
                    del found[run_id]
                    to_come.extendleft(reversed(skipped.pop(run_id, [])))  # each counts at its own step
    return found


def _best(values: Mapping[str, float], factor: int, mode: str) -> list[str]:
    """Return the runs among the best 1/`factor` at a rung, and those that tie with the last of them."""
    ordered = sorted(values.values(), reverse=mode == "max")
    last = ordered[max(1, len(ordered) // factor) - 1]
    return [run_id for run_id, value in values.items() if (value >= last if mode == "max" else value <= last)]
