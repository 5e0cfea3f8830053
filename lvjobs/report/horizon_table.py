"""The table of errors over the first steps of a forecast, by variable, and in scaled units. Pure."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.report.evaluated import Evaluated, groups
from lvjobs.report.numbers import counted, short, variable_names
from lvjobs.report.table import Table

HORIZONS = (1, 5, 10, 20)
"""The first steps whose errors are shown, as far as a forecast has so many."""
SCALED_STEPS = 5
"""The first steps whose scaled errors are shown beside those of all steps: as far as other studies forecast."""
IDENTITY = "table-horizons"
_NOT_KEPT = "Scaled errors of evaluations of earlier releases are not on record: evaluate these runs again."
_SCALED = (
    "Scaled: each error divided by the quantile of its series' and variable's history from which numbers are scaled "
    "before they are written (docs/evaluate.md)."
)


def horizon_tables(evaluations: Iterable[Evaluated], chosen: Collection[str] = ()) -> list[Table]:
    """Return a table for each group of evaluations that compare: its runs, base models and baselines.

    The rows of the runs in `chosen` stand out.
    """
    return [_table(group, chosen) for group in groups(evaluations)]


def _table(group: Sequence[Evaluated], chosen: Collection[str]) -> Table:
    first = group[0]
    models = sorted(group, key=lambda each: (each.is_zero_shot, each.subject))
    found = [(each.subject, each.scores["scores"]) for each in models]
    made = sorted(first.scores["baselines"].items(), key=lambda item: item[0] in KNOWING)
    found += [(row_name(name), scores) for name, scores in made if "problem" not in scores]
    steps = [count for count in HORIZONS if count <= len(found[0][1]["by_step"])]
    names = variable_names(len(found[0][1]["by_variable"]))
    figures = [_figures(scores, steps, names) for _, scores in found]
    notes = ["MAE in original units, over the first steps of the horizon; of each variable over all of it."]
    missing = [row["scaled_mae"] is None for row in figures]
    notes += ([] if all(missing) else [_SCALED]) + ([_NOT_KEPT] if any(missing) else [])
    headers = ["", *(f"MAE, {counted(count, 'steps')}" for count in steps), *names]
    if all(missing):
        figures = [{key: value for key, value in row.items() if not key.startswith("scaled")} for row in figures]
    else:
        few = counted(SCALED_STEPS, "steps")
        headers += [f"scaled MAE, {few}", f"scaled MSE, {few}"] if _has_more(found[0][1]) else []
        headers += ["scaled MAE", "scaled MSE"]
    rows = [[name, *map(_cell, row.values())] for (name, _), row in zip(found, figures, strict=True)]
    values = [{"name": name, **row} for (name, _), row in zip(found, figures, strict=True)]
    marked = {place for place, each in enumerate(models) if each.subject in chosen}
    title = "Errors over the first steps, by variable, and scaled"
    return Table(title, headers, rows, notes, first.circumstances, values, IDENTITY, marked=marked, rule=len(models))


def _figures(scores: Mapping[str, Any], steps: Sequence[int], names: Sequence[str]) -> dict[str, float | None]:
    """Return a row's figures in the order of the columns. Steps weigh the same, so means over them are exact."""
    figures: dict[str, float | None] = {f"mae_{count}": _mean(scores["by_step"], "mae", count) for count in steps}
    figures |= {f"mae_{name}": part["mae"] for name, part in zip(names, scores["by_variable"], strict=True)}
    scaled = scores.get("scaled")
    for metric in ("mae", "mse") if _has_more(scores) else ():
        figures[f"scaled_{metric}_{SCALED_STEPS}"] = _mean(scaled["by_step"], metric, SCALED_STEPS) if scaled else None
    for metric in ("mae", "mse"):
        figures[f"scaled_{metric}"] = scaled["overall"][metric] if scaled else None
    return figures


def _has_more(scores: Mapping[str, Any]) -> bool:
    """Return whether the horizon has more steps than those of which scaled errors are shown apart."""
    return len(scores["by_step"]) > SCALED_STEPS


def _mean(by_step: Sequence[Mapping[str, float]], metric: str, count: int) -> float:
    return statistics.fmean(step[metric] for step in by_step[:count])


def _cell(value: float | None) -> str:
    return "" if value is None else short(value)
