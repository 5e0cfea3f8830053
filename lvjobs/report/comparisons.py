"""Paired comparisons of the evaluated models with the base model and the baselines, as rows and as a table. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.forecasting.comparison import FEWEST, MEASURES, Comparison, Errors, Measure, compare, gathered, holm
from lvjobs.report.chosen import Choices, Model
from lvjobs.report.material import Material
from lvjobs.report.numbers import p_value, signed
from lvjobs.report.table import Table

COMPARISONS = "comparisons"
LEVEL = 0.05
"""The corrected p-value below which a difference counts as shown."""
Kind: TypeAlias = Literal["zero-shot", "baseline", "law"]
Verdict: TypeAlias = Literal["lower", "higher", "unclear", "untested"]


@dataclass(frozen=True)
class Row:
    """A model beside one other forecaster.

    Attributes:
        model: The model's label.
        other: The other's name.
        kind: The other's kind: the base model, a baseline, or a baseline that knows the law behind the data.
        found: The comparison.
        corrected: The p-value of each measure, corrected for the number of tests in its family.
    """

    model: str
    other: str
    kind: Kind
    found: Comparison
    corrected: Mapping[Measure, float]

    def verdict(self, measure: Measure) -> Verdict:
        """Return whether the model's error is lower or higher, not shown to be either, or not tested."""
        if self.found.series < FEWEST:
            return "untested"
        if self.corrected[measure] >= LEVEL:
            return "unclear"
        return "lower" if self.found.measures[measure].value < 0 else "higher"


@dataclass(frozen=True)
class Compared:
    """The comparisons of a study.

    Attributes:
        rows: The chosen model beside its base model and all baselines: one family of tests.
        others: Every other model beside its base model: another family.
        spread: The chosen model's standard deviation over seeds, by measure.
        problem: The reason if the chosen model cannot be compared.
        notes: Models that cannot be compared, and why.
    """

    rows: Sequence[Row] = ()
    others: Sequence[Row] = ()
    spread: Mapping[Measure, float | None] | None = None
    problem: str = ""
    notes: Sequence[str] = ()


_Pair: TypeAlias = tuple[str, str, Kind, Errors, Errors]


def compare_all(choices: Choices, material: Material) -> Compared:
    """Compare the chosen model with its base model and all baselines, and every other model with its base model.

    The p-values of both families are corrected by Holm's procedure, each for all its rows and measures.
    """
    chosen = choices.chosen
    if chosen is None:
        return Compared()
    base = choices.base_of(chosen)
    pairs: list[_Pair] = []
    try:
        own = _errors(chosen, material)
        if base is not None:
            pairs.append((chosen.label, base.name, "zero-shot", own, _errors(base, material)))
        for name, errors in material.baseline_errors(chosen.runs[0]).items():
            kind: Kind = "law" if name in KNOWING else "baseline"
            pairs.append((chosen.label, name, kind, own, gathered([errors])))
    except LvjobsError as error:
        return Compared(problem=str(error))
    others, notes = _of_others(choices, chosen, material)
    return Compared(_rows(pairs), _rows(others), own.spread, notes=notes)


def _of_others(choices: Choices, chosen: Model, material: Material) -> tuple[list[_Pair], list[str]]:
    pairs: list[_Pair] = []
    notes = []
    known: dict[str, Errors] = {}
    best = choices.best_by_test
    for model in choices.every:
        if model.is_same(chosen) or (base := choices.base_of(model)) is None:
            continue
        label = best.label if best is not None and model.is_same(best) else model.name
        try:
            key = str(base.runs[0].files.root)
            known.setdefault(key, _errors(base, material))
            pairs.append((label, base.name, "zero-shot", _errors(model, material), known[key]))
        except LvjobsError as error:  # its data are elsewhere: the other models are compared all the same
            notes.append(f"{label} is not compared: {error}.")
    return pairs, notes


def _rows(pairs: Sequence[_Pair]) -> list[Row]:
    if not pairs:
        return []
    found = compare([(own, other) for *_, own, other in pairs])
    corrected = iter(holm([each.measures[name].p for each in found for name in MEASURES]))
    return [
        Row(model, other, kind, each, {name: next(corrected) for name in MEASURES})
        for (model, other, kind, *_), each in zip(pairs, found, strict=True)
    ]


def _errors(model: Model, material: Material) -> Errors:
    return gathered([material.errors(each) for each in model.runs])


def comparison_table(compared: Compared, choices: Choices, only: Collection[str] | None = None) -> Table | None:
    """Return the rows as a table, or those of `only` these models; None if there are none."""
    title = "Paired comparisons"
    if compared.problem:
        return Table(title, missing=compared.problem, id=COMPARISONS)
    rows = [row for row in (*compared.rows, *compared.others) if only is None or row.model in only]
    if not rows or choices.chosen is None:
        return None
    names = ["", "beside", "MAE difference", "skill", "p", "MSE difference", "skill", "p"]
    names += ["median MAE difference", "p", "lower on", "p (rank)"]
    columns = zip(names, *map(_cells, rows), strict=True)
    headers, *cells = zip(
        *(column for column in columns if any(column[1:])), strict=True
    )  # without a test there is no p
    return Table(
        title,
        headers,
        cells,
        [*_notes(rows[0].found.series, compared), *compared.notes],
        choices.chosen.runs[0].circumstances,
        [_exact(row) for row in rows],
        COMPARISONS,
        marked={0} if rows[0] in compared.rows and rows[0].kind == "zero-shot" else (),
        words=2,
    )


def _notes(series: int, compared: Compared) -> list[str]:
    one, other = (len(MEASURES) * len(rows) for rows in (compared.rows, compared.others))
    tests = f"{one} tests of the chosen model" + (f", and for the {other} of the other models" if other else "")
    meaning = (
        "A difference is the model's error less the other's: negative is better. Skill: 1 - error / other error. "
        "Median MAE: over series. Lower on: series on which the model's MAE is lower."
    )
    intervals = (
        f"In brackets: 95 %, by a bootstrap over the {series} series that both forecast, and over training seeds where "
        "a model has several. Each interval is for itself: it may exclude 0 where the corrected p is above .05."
    )
    values = (
        f"p: two-sided, by the same resamples, corrected by Holm's procedure for the {tests}. p (rank): Wilcoxon's "
        "signed-rank test by series, seeds averaged, not corrected; no verdict rests on it."
    )
    if series < FEWEST:
        return [
            meaning,
            f"{series} series are too few for a test, which takes {FEWEST}: no interval and no p is shown.",
        ]
    return [meaning, intervals, values]


def _cells(row: Row) -> tuple[str, ...]:
    found, cells = row.found, []
    for name in MEASURES:
        each, tested = found.measures[name], row.verdict(name) != "untested"
        ends = f" [{signed(each.low)}, {signed(each.high)}]" if tested else ""
        cells.append(f"{signed(each.value)}{ends}")
        if name != "median":
            cells.append("" if each.skill is None else signed(each.skill))
        cells.append(p_value(row.corrected[name]) if tested else "")
    ties = f" ({found.ties} equal)" if found.ties else ""
    cells.append(f"{found.wins} of {found.series}{ties}")
    cells.append(p_value(found.p_rank) if found.series >= FEWEST else "")
    seeds = f" ({found.seeds[0]} seeds)" if found.seeds[0] > 1 else ""
    return (f"{row.model}{seeds}", row_name(row.other) if row.kind == "law" else row.other, *cells)


def _exact(row: Row) -> dict[str, Any]:
    found, tested = row.found, row.found.series >= FEWEST
    measures: dict[str, dict[str, Any]] = {
        name: {
            "model": each.own,
            "other": each.other,
            "difference": each.value,
            "low": each.low if tested else None,
            "high": each.high if tested else None,
            "skill": each.skill,
            "p": each.p if tested else None,
            "p_corrected": row.corrected[name] if tested else None,
            "verdict": row.verdict(name),
        }
        for name, each in found.measures.items()
    }
    counts = {"series": found.series, "seeds": found.seeds[0], "lower_on": found.wins, "equal_on": found.ties}
    p_rank = found.p_rank if tested else None
    return {"model": row.model, "other": row.other, "kind": row.kind, **counts, "p_rank": p_rank, **measures}
