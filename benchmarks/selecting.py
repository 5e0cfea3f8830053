"""Test errors of a stage's winner, chosen by `validation_mae` against `validation_loss`.

    python benchmarks/selecting.py [--smoke]
    python benchmarks/selecting.py --record STUDY [--seeds 0-19] [--slots 2]     # trains, in a study there

`benchmarks/selecting` has recorded runs of `tiny` (by `candidates.py`): six candidates, LoRA rank x learning rate, each
trained with every seed. Each run has, at its last step, both metrics of the same validation systems: the loss of their
true text, and the mean absolute error of its own forecasts. Then it forecasts held-out series, the test. Each way
chooses one candidate per seed, by the code that studies use. The test errors of what it chose are compared seed by
seed. The peer is `validation_loss`, the default.

The unit is the training seed. Intervals and tests are those of `lvjobs.forecasting.comparison`, with seeds in place of
series: a percentile bootstrap of the paired differences, and Wilcoxon's signed-rank test. Data, validation systems and
held-out series are the same for all seeds. So an interval is over training seeds, given these systems. If these
validation systems happen to favor a metric, they favor it for every seed, and no interval shows that. Of other data,
models or candidates it says nothing.

The goal decides whether `validation_mae` becomes the default of stages that forecast: the 95 % interval of its MAE
difference lies below 0, with at least 20 seeds. The other measures and ways are shown beside it, and decide nothing.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from candidates import RECORDED, SMOKE, Record, Sizes, Trained, read_record, record
from measuring import command_line, print_table
from scipy.stats import spearmanr

from lvjobs.forecasting.comparison import FEWEST, Comparison, Difference, Errors, compare
from lvjobs.study.stages import Select
from lvjobs.sweep.selection import Outcome, rank

PEER, OURS = "validation_loss", "validation_mae"
METRICS = (PEER, OURS, "training_loss")
_RANDOM, _BOUND = "a random candidate", "lowest test MAE"
_GOAL = "below 0"

Stages = Sequence[Sequence[Trained]]
"""The candidates of each seed."""


@dataclass(frozen=True)
class Choice:
    """The test errors that a way reached by seed: (seeds,) each.

    Attributes:
        mae: The MAE of the chosen candidate. A way that draws has the mean over candidates; so have the others.
        mse: Its MSE.
        median: Its median MAE over series.
        best: The share of seeds on which it chose the candidate with the lowest test MAE.
        cells: The chosen settings by seed; empty for a way that draws.
    """

    mae: Sequence[float]
    mse: Sequence[float]
    median: Sequence[float]
    best: float
    cells: Sequence[tuple[int, float]] = ()


def winner(candidates: Sequence[Trained], value: Callable[[Trained], float]) -> Trained:
    """Return the candidate with the lowest value, by the code that studies use."""
    outcomes = [Outcome(str(at), "", at, "done", value(each), each.flops) for at, each in enumerate(candidates)]
    found = rank(outcomes, Select(metric=PEER)).winner
    if found is None:
        raise SystemExit(f"no candidate of seed {candidates[0].seed} has a value")
    return candidates[int(found.run_id)]


def chosen_by(stages: Stages, value: Callable[[Trained], float]) -> Choice:
    """Choose the candidate with the lowest value on each seed."""
    found = [winner(candidates, value) for candidates in stages]
    best = statistics.fmean(
        run.mae == min(each.mae for each in candidates) for run, candidates in zip(found, stages, strict=True)
    )
    errors = [[run.mae for run in found], [run.mse for run in found], [run.median_mae for run in found]]
    return Choice(*errors, best, [run.cell for run in found])


def at_random(stages: Stages) -> Choice:
    """Return the expected errors of a candidate that is drawn on each seed."""

    def means(value: Callable[[Trained], float]) -> list[float]:
        return [statistics.fmean(map(value, candidates)) for candidates in stages]

    best = statistics.fmean(1 / len(candidates) for candidates in stages)
    return Choice(means(lambda run: run.mae), means(lambda run: run.mse), means(lambda run: run.median_mae), best)


def rank_correlation(stages: Stages, metric: str) -> float:
    """Return Spearman's correlation of a metric with the test MAE over candidates, as a mean over seeds."""
    found = [spearmanr([getattr(run, metric) for run in each], [run.mae for run in each]).statistic for each in stages]
    return statistics.fmean(map(float, found))


def beside(own: Choice, peer: Choice) -> tuple[Comparison, Difference]:
    """Compare two ways seed by seed; the second value is the difference of their median MAEs."""

    def errors(mae: Sequence[float], mse: Sequence[float]) -> Errors:
        return Errors(np.array([mae]), np.array([mse]))

    whole = (errors(own.mae, own.mse), errors(peer.mae, peer.mse))
    medians = (errors(own.median, own.mse), errors(peer.median, peer.mse))
    found, typical = compare([whole, medians])
    return found, typical.measures["mae"]


def verdict(difference: Difference, seeds: int) -> str:
    """Return the answer that the MAE difference of `validation_mae` allows."""
    if seeds < FEWEST:
        return f"Nothing is concluded from fewer than {FEWEST} seeds."
    if difference.high < 0:
        return f"Goal reached: choosing by {OURS} led to a lower test MAE than choosing by {PEER}."
    if difference.low > 0:
        return f"Goal missed: choosing by {OURS} led to a higher test MAE than choosing by {PEER}."
    return f"Goal missed: no difference in test MAE between choosing by {OURS} and by {PEER} is shown."


def shown(difference: Difference) -> str:
    """Return a difference with its interval."""
    return f"{difference.value:+.5f} [{difference.low:+.5f}, {difference.high:+.5f}]"


def ways_of(stages: Stages) -> dict[str, Choice]:
    """Return what each way chose."""
    by_metric = {metric: chosen_by(stages, lambda run, of=metric: getattr(run, of)) for metric in METRICS}  # type: ignore[misc]
    return {**by_metric, _RANDOM: at_random(stages), _BOUND: chosen_by(stages, lambda run: run.mae)}


def rows_of(stages: Stages, found: Mapping[str, Choice]) -> list[list[Any]]:
    """Return a row for each way."""
    rows, peer = [], found[PEER]
    for name, choice in found.items():
        means = [f"{statistics.fmean(each):.5f}" for each in (choice.mae, choice.mse, choice.median)]
        row = [name, *means, f"{choice.best:.0%}"]
        row.append(f"{rank_correlation(stages, name):+.2f}" if name in METRICS else "")
        if name == PEER:
            rows.append([*row, "", "", "", "", "", ""])
            continue
        compared, typical = beside(choice, peer)
        differ = sum(one != other for one, other in zip(choice.cells, peer.cells, strict=True)) if choice.cells else ""
        measures = [compared.measures["mae"], compared.measures["mse"], typical]
        goal = _GOAL if name == OURS else ""
        rows.append([*row, differ, *map(shown, measures), f"{compared.p_rank:.3g}", goal])
    return rows


def by_means(stages: Stages) -> str:
    """Return what each metric chooses if a stage compares the means over all its seeds."""
    cells = {run.cell: [each for runs in stages for each in runs if each.cell == run.cell] for run in stages[0]}
    found = []
    for metric in (PEER, OURS):
        means = {cell: statistics.fmean(getattr(run, metric) for run in runs) for cell, runs in cells.items()}
        ranked = min(means, key=lambda cell: means[cell])
        mae = statistics.fmean(run.mae for run in cells[ranked])
        found.append(f"{metric} rank {ranked[0]}, rate {ranked[1]:g} (test MAE {mae:.5f})")
    lowest = min(statistics.fmean(run.mae for run in runs) for runs in cells.values())
    return f"One choice by the means over all seeds: {' and '.join(found)}; the lowest of a candidate is {lowest:.5f}."


def notes_of(recorded: Record, stages: Stages, found: Mapping[str, Choice]) -> list[str]:
    """Return what has to be known of the table."""
    setup, runs = recorded.setup, [run for candidates in stages for run in candidates]
    forecasts = statistics.fmean(run.forecast_flops / run.training_flops for run in runs)
    losses = statistics.fmean(run.validation_flops / run.training_flops for run in runs)
    left_out = len({run.seed for run in recorded.runs}) - len(stages)
    listed = (
        f"n = {len(stages)} training seeds, {len(stages[0])} candidates each (LoRA rank x learning rate), "
        f"{setup['model']}, {setup['steps']} steps of {setup['batch_size']} windows. Both metrics are of the same "
        f"{setup['validation_forecasts']} validation systems, the test errors of the first {setup['series']} held-out "
        "series, in original units." + (f" Seeds left out, as candidates are missing: {left_out}." if left_out else "")
    )
    columns = (
        f"Peer: {PEER}. Differences: paired by seed, negative is a lower error, in brackets 95 % by a bootstrap over "
        "seeds. p: Wilcoxon's signed-rank test of the MAE, not corrected. Differs: seeds on which another candidate "
        "was chosen. Rank correlation: of the metric with the test MAE, over candidates, as a mean over seeds."
    )
    scope = (
        "Data, validation systems and held-out series are the same for all seeds: intervals are over training seeds, "
        "given these systems. Of other data, models or candidates they say nothing."
    )
    costs = (
        "FLOPs of a run's validations (before the first step and after the last), as shares of its training's: "
        f"losses {losses:.2f}, forecasts {forecasts:.2f}."
    )
    answer = verdict(beside(found[OURS], found[PEER])[0].measures["mae"], len(stages))
    goal = f"Goal: the interval of the MAE difference of {OURS} lies below 0. {answer}"
    return [listed, columns, scope, by_means(stages), costs, goal]


def numbers(text: str) -> list[int]:
    """Return the seeds of `0-19` or `0,3,7-9`."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [seed for each in ends for seed in range(each[0], each[-1] + 1)]


def main() -> None:
    """Record, or print the table of what is recorded."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("--record", type=Path, metavar="STUDY", help="train in a study there, and add to the file")
    parser.add_argument("--seeds", type=numbers, default="0-19", help="of --record: such as 0-19 or 0,3,7-9")
    parser.add_argument("--slots", type=int, default=2, help="of --record: jobs at once, a thread each")
    parser.add_argument("--file", type=Path, help=f"the recorded runs; by default {RECORDED.name} beside this script")
    options = parser.parse_args()
    if options.record:
        sizes = SMOKE if options.smoke else Sizes()
        file = options.file or (options.record / "smoke.json" if options.smoke else RECORDED)
        record(options.record, options.seeds, file, options.slots, sizes)
        return
    recorded = read_record(options.file or RECORDED)
    stages = list(recorded.by_seed().values())
    if not stages:
        print("Nothing was measured: no seed is recorded yet. Record some: see the top of benchmarks/selecting.py.")
        return
    found = ways_of(stages)
    header = ["chosen by", "test MAE", "MSE", "median MAE", "best by test", "rank correlation", "differs"]
    header += ["MAE beside the peer", "MSE beside the peer", "median beside the peer", "p", "goal"]
    print_table(header, rows_of(stages, found), notes_of(recorded, stages, found))


if __name__ == "__main__":
    main()
