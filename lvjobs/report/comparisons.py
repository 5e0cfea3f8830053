"""Paired comparisons of the evaluated models with the base model and the baselines, as rows and as a table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.baselines import KNOWING
from lvjobs.forecasting.comparison import FEWEST, MEASURES, Comparison, Errors, Measure, compare, gathered, holm
from lvjobs.report.chosen import Choices, Model
from lvjobs.report.material import Material
from lvjobs.report.numbers import signed
from lvjobs.report.table import Table

COMPARISONS = "comparisons"
LEVEL = 0.05
"""The corrected p-value below which one error is called lower than another."""
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
        corrected: The p-value of each measure, corrected for the number of rows.
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
        sign = self.found.direction if measure == "median" else self.found.measures[measure].value
        return "lower" if sign < 0 else "higher"


@dataclass(frozen=True)
class Compared:
    """The rows, those of the chosen model first; and its standard deviation over seeds.

    `problem` is the reason if nothing can be compared.
    """

    rows: Sequence[Row] = ()
    spread: Mapping[Measure, float | None] | None = None
    problem: str = ""


def compare_all(choices: Choices, material: Material) -> Compared:
    """Compare the chosen model with the base model and all baselines, and every other model with the base model.

    The p-values of each measure are corrected for the number of rows by Holm's procedure.
    """
    chosen, base = choices.chosen, choices.zero_shot
    if chosen is None:
        return Compared()
    try:
        own = _errors(chosen, material)
        pairs: list[tuple[str, str, Kind, Errors, Errors]] = []
        if base is not None:
            zero_shot = _errors(base, material)
            pairs.append((chosen.name, base.name, "zero-shot", own, zero_shot))
        for name, errors in material.baseline_errors(chosen.runs[0]).items():
            pairs.append((chosen.name, name, "law" if name in KNOWING else "baseline", own, gathered([errors])))
        if base is not None:
            others = [model for model in choices.every if model.runs[0] not in chosen.runs]
            pairs += [(model.name, base.name, "zero-shot", _errors(model, material), zero_shot) for model in others]
    except LvjobsError as error:
        return Compared(problem=str(error))
    found = compare([(own, other) for *_, own, other in pairs])
    corrected = {name: holm([each.measures[name].p for each in found]) for name in MEASURES}
    rows = [
        Row(model, other, kind, each, {name: corrected[name][place] for name in MEASURES})
        for place, ((model, other, kind, *_), each) in enumerate(zip(pairs, found, strict=True))
    ]
    return Compared(rows, own.spread)


def _errors(model: Model, material: Material) -> Errors:
    return gathered([material.errors(each) for each in model.runs])


def comparison_table(compared: Compared, choices: Choices) -> Table | None:
    """Return the rows as a table; None if there is nothing to compare, or no test of it."""
    title = "Paired comparisons"
    if compared.problem:
        return Table(title, missing=compared.problem, id=COMPARISONS)
    if not compared.rows or choices.chosen is None:
        return None
    headers = ["", "beside", "MAE difference", "skill", "p", "MSE difference", "skill", "p"]
    headers += ["median difference", "lower on", "p (rank)"]
    series = compared.rows[0].found.series
    paired = (
        "A difference is the model's error less the other's: a negative one is a lower error. In brackets: 95 %, by a "
        f"bootstrap over the {series} series, which both forecast, and over training seeds where a model has several."
    )
    tested = (
        f"p: two-sided, corrected by Holm's procedure for the {len(compared.rows)} rows. p (rank): Wilcoxon's "
        "signed-rank test of the MAE by series. Skill: 1 - error / other error. Median: of the MAE by series."
    )
    notes = [paired, tested]
    if series < FEWEST:
        notes.append(f"{series} series are too few for a test, which takes {FEWEST}: no p-value is shown.")
    return Table(
        title,
        headers,
        [_cells(row) for row in compared.rows],
        notes,
        choices.chosen.runs[0].circumstances,
        [_exact(row) for row in compared.rows],
        COMPARISONS,
        marked={place for place, row in enumerate(compared.rows) if row.kind == "zero-shot" and not place},
        words=2,
    )


def _cells(row: Row) -> tuple[str, ...]:
    found, cells = row.found, []
    for name in MEASURES:
        each = found.measures[name]
        cells.append(f"{signed(each.value)} [{signed(each.low)}, {signed(each.high)}]")
        if name != "median":
            cells.append("" if each.skill is None else signed(each.skill))
        else:
            cells.append(f"{found.wins} of {found.series}")
        cells.append("" if row.verdict(name) == "untested" else f"{row.corrected[name]:.2g}")
    seeds = f" ({found.seeds[0]} seeds)" if found.seeds[0] > 1 else ""
    return (f"{row.model}{seeds}", f"{row.other} (knows the law)" if row.kind == "law" else row.other, *cells)


def _exact(row: Row) -> dict[str, Any]:
    found = row.found
    measures: dict[str, dict[str, Any]] = {
        name: {
            "model": each.own,
            "other": each.other,
            "difference": each.value,
            "low": each.low,
            "high": each.high,
            "skill": each.skill,
            "p": each.p,
            "p_corrected": row.corrected[name],
            "verdict": row.verdict(name),
        }
        for name, each in found.measures.items()
    }
    counts = {"series": found.series, "seeds": found.seeds[0], "lower_on": found.wins, "equal_on": found.ties}
    return {"model": row.model, "other": row.other, "kind": row.kind, **counts, **measures}
