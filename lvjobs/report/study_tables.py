"""The report's Tables 2 to 4: hyperparameter cells, context lengths with zero-shot and final runs, FLOPs. Pure.

A table of evaluations never mixes those of other series, by another split, with another prompt, or decoded in another
way. It ends with the baselines of the same series.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.records.summary import RunStatus
from lvjobs.report.evaluated import Evaluated, groups, settings_of
from lvjobs.report.numbers import four_digits, setting, short, variable_names
from lvjobs.report.table import Table
from lvjobs.study.words import CHARGE_LABELS

TABLE_2, TABLE_3 = "table-2-rank-and-rate", "table-3-context"
TITLES = {TABLE_2: "Table 2: rank and learning rate", TABLE_3: "Table 3: context length"}
WITHOUT_CONTEXT = "Table 3: final runs, base models and baselines"
"""The title of Table 3 where no two runs differ in context length alone."""
CELL = ("lora_rank", "learning_rate")
"""The settings in which the cells of Table 2 differ."""
CONTEXT = ("context_length",)
"""The setting in which the rows of Table 3 differ."""
_NAMES = {"lora_rank": "rank", "learning_rate": "learning rate", "context_length": "context"}
_APART = "Evaluations on other series, splits, prompts or decoding have their own table. "
_INTERVALS = (
    "In brackets: 95 %, by a bootstrap over series, for each row. Intervals that overlap do not show two "
    "rows equal; the paired comparisons test differences."
)
_FIGURES = ("mae", "mse", "rmse", "median_mae", "median_mse")


def study_tables(evaluations: Iterable[Evaluated], chosen: Collection[str] = ()) -> list[Table]:
    """Return Tables 2 and 3 of each group of evaluations that compare; a table without rows is left out.

    The rows of the runs in `chosen` stand out.
    """
    tables = []
    parts = groups(evaluations)
    for group in parts:
        runs = [each for each in group if not each.is_zero_shot]
        zero_shot = [each for each in group if each.is_zero_shot]
        cells, lengths = ([each for family in families(runs, keys) for each in family] for keys in (CELL, CONTEXT))
        used = {id(each) for each in (*cells, *lengths)}
        rest = sorted((each for each in runs if id(each) not in used), key=lambda each: each.subject)
        if cells:
            tables.append(_table(TABLE_2, CELL, cells, (), zero_shot, chosen))
        if lengths or rest or not runs:
            tables.append(_table(TABLE_3, CONTEXT, lengths, rest, zero_shot, chosen))
    if len(parts) > 1:
        tables = [replace(table, notes=(*table.notes, _APART)) for table in tables]
    return tables


def families(runs: Sequence[Evaluated], keys: Sequence[str]) -> list[list[Evaluated]]:
    """Return groups of runs that differ in `keys` alone (and in seed); runs without such a partner are left out.

    Each group is sorted by its values of `keys`.
    """
    found: dict[str, list[Evaluated]] = defaultdict(list)
    for each in runs:
        rest = {key: value for key, value in settings_of(each).items() if key not in (*keys, "seed")}
        found[repr(sorted(rest.items()))].append(each)
    several = [family for family in found.values() if len({cell_of(each, keys) for each in family}) > 1]
    return [sorted(family, key=lambda each: (cell_of(each, keys), each.subject)) for family in several]


def cell_of(each: Evaluated, keys: Sequence[str]) -> tuple[Any, ...]:
    """Return the evaluation's values of `keys`."""
    settings = settings_of(each)
    return tuple(settings[key] for key in keys)


def _table(
    identity: str,
    keys: Sequence[str],
    cells: Sequence[Evaluated],
    rest: Sequence[Evaluated],
    zero_shot: Sequence[Evaluated],
    chosen: Collection[str],
) -> Table:
    runs = [*cells, *rest]
    first = (*runs, *zero_shot)[0]
    # A run that was stopped early has the steps that it reached.
    settings = [{**settings_of(each), "steps": each.steps} for each in runs]
    has_lengths = keys != CONTEXT or bool(cells)
    settings += [{"model": each.config.training.model} for each in zero_shot]
    varying = [key for key in settings[0] if len({repr(one[key]) for one in settings if key in one}) > 1]
    shown = [
        *(key for key in keys if has_lengths or key in varying),
        *(key for key in varying if key not in (*keys, "steps")),
        "steps",
    ]
    rows: list[tuple[str, ...]] = []
    values: list[dict[str, Any]] = []

    def add(label: str, kind: str, scores: Mapping[str, Any], its: Mapping[str, Any]) -> None:
        own = [its.get(key) for key in shown]
        texts = [f"{value:,}" if isinstance(value, int) else setting(value) for value in own]
        words = row_name(label) if kind == "baseline" else label
        rows.append((words, *texts, *(_cell(scores, name) for name in _FIGURES)))
        exact = {name: {"value": _value(scores, name), **scores["intervals"][name]} for name in _FIGURES}
        values.append({"name": label, "kind": kind, **{key: its.get(key) for key in shown}, **exact})

    for each, its in zip([*runs, *zero_shot], settings, strict=True):
        kind = "zero-shot" if each.is_zero_shot else "final" if each in rest else "run"
        add(each.subject, kind, each.scores["scores"], its)
    notes = []
    baselines = first.scores["baselines"].items()
    for name, scores in sorted(baselines, key=lambda item: item[0] in KNOWING):
        if "problem" in scores:
            notes.append(f"{name}: {scores['problem']}.")
        else:
            add(name, "baseline", scores, {})
    add("rounding alone", "baseline", first.scores["rounding"], {})
    if names := [each.subject for each in runs if each.config.training.validation_systems == 0]:
        notes.append(
            f"Validated on scored series (validation_systems = 0): {', '.join(names)}. If anything was chosen by that "
            "loss, these figures are too good."
        )
    notes += [*_with_other_weights(runs, zero_shot), _INTERVALS, f"Original units. {_pooled(first)}"]
    headers = ("", *(_NAMES.get(key, key.replace("_", " ")) for key in shown))
    figures = ("MAE", "MSE", "RMSE", "median MAE", "median MSE")
    return Table(
        TITLES[identity] if has_lengths else WITHOUT_CONTEXT,
        (*headers, *figures),
        rows,
        notes,
        first.circumstances,
        values,
        identity,
        marked={place for place, each in enumerate(runs) if each.subject in chosen},
        rule=len(settings),
    )


def _with_other_weights(runs: Sequence[Evaluated], zero_shot: Sequence[Evaluated]) -> list[str]:
    """Return a note for each base model that is not, weight for weight, the base of all its runs."""
    notes = []
    for base in zero_shot:
        its = base.scores.get("weights_sha256", "")  # older evaluations do not say
        others = [
            each.subject
            for each in runs
            if base.is_base_of(each) and its and each.scores.get("weights_sha256", its) != its
        ]
        if others:
            notes.append(
                f"{base.subject} was forecast with other weights of {base.config.training.model} than "
                f"{', '.join(others)}. Differences between these rows do not come from fine-tuning alone."
            )
    return notes


def _pooled(first: Evaluated) -> str:
    """Return what the metrics of several variables are: how they are averaged, and whose errors they mostly are."""
    errors = [float(each["mae"]) for each in first.scores["scores"]["by_variable"]]
    if len(errors) == 1:
        return "RMSE: the root of the MSE."
    names, total = variable_names(len(errors)), sum(errors)
    largest = max(range(len(errors)), key=lambda place: errors[place])
    share = (
        f"; {100 * errors[largest] / total:.0f} % of the MAE of {first.subject} is {names[largest]}'s" if total else ""
    )
    return f"MAE and MSE pool the variables{share}. RMSE: the mean of each variable's own."


def _cell(scores: Mapping[str, Any], name: str) -> str:
    ends = scores["intervals"][name]
    return f"{short(_value(scores, name))} [{short(ends['low'])}, {short(ends['high'])}]"


def _value(scores: Mapping[str, Any], name: str) -> float:
    return float(scores[name] if name.startswith("median") else scores["overall"][name])


TABLE_4 = "table-4-flops"
_KINDS = ("useful", "replayed", "validation", "generation")


def budget_table(budget: Mapping[str, Any], runs: Sequence[RunStatus]) -> Table:
    """Return each stage's runs, steps and FLOPs by kind, with their share of the limit; the last row is the sum.

    Args:
        budget: A summary's `budget`: exact integers, summed here before they are rounded to four digits.
        runs: The same summary's `runs`.
    """
    rows = []
    for stage, counted in budget["by_stage"].items():
        of_stage = [run for run in runs if run.stage == stage]
        by_kind = budget["by_stage_and_kind"][stage]
        steps = sum(run.executed_steps for run in of_stage)
        rows.append([len(of_stage), steps, *(by_kind[kind] for kind in _KINDS), counted])
    rows.append([sum(column) for column in zip(*rows, strict=True)] or [0] * (len(_KINDS) + 3))
    # Kinds that do not count are shown, and the total's header says that they are left out.
    total = "total" if budget["counts_inference"] else "useful + repeated"
    return Table(
        "Table 4: FLOPs of the study, by stage",
        ["stage", "runs", "steps executed", *map(CHARGE_LABELS.__getitem__, _KINDS), total, "of the limit"],
        [
            [stage, f"{of:,}", f"{steps:,}", *map(four_digits, flops), f"{100 * flops[-1] / budget['limit']:.2f} %"]
            for stage, (of, steps, *flops) in zip([*budget["by_stage"], "total"], rows, strict=True)
        ],
        [f"By the {budget['convention']} convention, as executed, by the runs' journals."],
        rule=len(rows) - 1,
    )
