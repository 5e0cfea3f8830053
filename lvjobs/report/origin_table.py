"""The table of errors by forecast origin: models, base models and baselines that have forecasts from each. Pure."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean

from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.report.evaluated import Evaluated, origin_of
from lvjobs.report.numbers import counted, short
from lvjobs.report.table import Table

IDENTITY = "table-origins"
TITLE = "Errors by forecast origin"
_READ = (
    "MAE in original units. From another origin more or fewer steps are seen, and other steps are forecast: compare "
    "down a column, not along a row. The mean gives each origin the same weight."
)

_Row = Mapping[int, Evaluated]
"""A model's evaluations by forecast origin."""


def origin_tables(evaluations: Iterable[Evaluated], chosen: Collection[str] = ()) -> list[Table]:
    """Return a table for each group of evaluations that differ in their forecast origin alone, if several have one.

    The rows of the runs in `chosen` stand out.
    """
    kinds: dict[str, dict[str, dict[int, Evaluated]]] = defaultdict(lambda: defaultdict(dict))
    for each in evaluations:
        if each.scores["split"] != "asked":
            kinds[each.comparable_elsewhere][_model(each)].setdefault(each.scores["history"], each)
    tables = [_table([*models.values()], chosen) for models in kinds.values()]
    return [table for table in tables if table]


def _model(each: Evaluated) -> str:
    """Return a key that is equal for the same model at any origin."""
    name = each.trained.name if each.trained else ""
    training = each.config.training.model_dump(mode="json", exclude={"history_steps"})
    return json.dumps([name, training, each.config.adapter, each.run.seed if each.config.temperature else None])


def _table(every: Sequence[_Row], chosen: Collection[str]) -> Table | None:
    """Return the table of the models with as many origins as any has; None if that is one.

    Of several sets of as many origins, the one that most models have is shown.
    """
    covered = Counter(tuple(sorted(row)) for row in every)
    origins = max(covered, key=lambda found: (len(found), covered[found]))
    if len(origins) < 2:  # noqa: PLR2004
        return None
    models = [row for row in every if set(row) >= set(origins)]
    models.sort(key=lambda row: (row[origins[0]].is_zero_shot, row[origins[0]].subject))
    first = models[0]
    found = [(row[origins[0]].subject, [row[origin].mae for origin in origins]) for row in models]
    baselines, notes = _baselines(first, origins)
    found += baselines
    notes = [_READ, *notes]
    trained = [row[origins[0]].trained for row in models]
    if own := {origin_of(run) for run in trained if run}:
        notes.append(f"Own origin of the runs (history_steps): {' or '.join(map(str, sorted(own)))}.")
    if left := len(every) - len(models):
        notes.append(f"Left out, because they lack one of these origins: {counted(left, 'models')}.")
    headers = ["", *(f"from {origin}" for origin in origins), "mean"]
    rows = [[name, *map(short, [*values, fmean(values)])] for name, values in found]
    keys = [*(f"mae_{origin}" for origin in origins), "mae_mean"]
    values = [{"name": name, **dict(zip(keys, [*values, fmean(values)], strict=True))} for name, values in found]
    marked = {place for place, row in enumerate(models) if row[origins[0]].subject in chosen}
    one = first[origins[0]]
    words = one.described(f"the {one.scores['horizon']} steps after each origin forecast")
    return Table(TITLE, headers, rows, notes, words, values, IDENTITY, marked=marked, rule=len(models))


def _baselines(row: _Row, origins: Sequence[int]) -> tuple[list[tuple[str, list[float]]], list[str]]:
    """Return the baselines with their errors from each origin, and notes on those that lack one."""
    made, notes = [], []
    every = dict.fromkeys(name for origin in origins for name in row[origin].scores["baselines"])
    names = sorted(every, key=lambda name: name in KNOWING)
    for name in names:
        own = {origin: row[origin].scores["baselines"].get(name, {"problem": "not made"}) for origin in origins}
        lacking = next((origin for origin, scores in own.items() if "problem" in scores), None)
        if lacking is None:
            made.append((row_name(name), [float(own[origin]["overall"]["mae"]) for origin in origins]))
        else:
            notes.append(f"{name}, from {lacking}: {own[lacking]['problem']}.")
    return made, notes
