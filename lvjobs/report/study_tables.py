"""The report's Tables 2 to 4: hyperparameter cells, context lengths with zero-shot and final runs, FLOPs. Pure.

A table of evaluations never mixes those of other series, by another split, with another prompt, or decoded in another
way. It ends with the baselines of the same series.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs.records.summary import RunStatus
from lvjobs.report.evaluated import Evaluated, groups
from lvjobs.report.numbers import four_digits, setting, short
from lvjobs.report.table import Table

TABLE_2, TABLE_3 = "table-2-rank-and-rate", "table-3-context"
TITLES = {TABLE_2: "Table 2: rank and learning rate", TABLE_3: "Table 3: context length"}
CELL = ("lora_rank", "learning_rate")
"""The settings in which the cells of Table 2 differ."""
CONTEXT = ("context_length",)
"""The setting in which the rows of Table 3 differ."""
_NAMES = {"lora_rank": "rank", "learning_rate": "learning rate", "context_length": "context"}
_IGNORED = {"data", "data_sha256", "lora_alpha", "validation_limit"}
_APART = (
    "What was evaluated on other series, by another split, with another prompt or decoded in another way stands in a "
    "table of its own."
)
_FIGURES = ("mae", "mse", "rmse", "median_mae", "median_mse")


def study_tables(evaluations: Iterable[Evaluated]) -> list[Table]:
    """Return Tables 2 and 3 of each group of evaluations that compare; a table without rows is left out."""
    tables = []
    parts = groups(evaluations)
    for group in parts:
        runs = [each for each in group if not each.is_zero_shot]
        zero_shot = [each for each in group if each.is_zero_shot]
        cells, lengths = ([each for family in families(runs, keys) for each in family] for keys in (CELL, CONTEXT))
        used = {id(each) for each in (*cells, *lengths)}
        rest = sorted((each for each in runs if id(each) not in used), key=lambda each: each.subject)
        if cells:
            tables.append(_table(TABLE_2, CELL, cells, (), zero_shot))
        if lengths or rest or not runs:
            tables.append(_table(TABLE_3, CONTEXT, lengths, rest, zero_shot))
    if len(parts) > 1:
        tables = [replace(table, notes=(*table.notes, _APART)) for table in tables]
    return tables


def families(runs: Sequence[Evaluated], keys: Sequence[str]) -> list[list[Evaluated]]:
    """Return groups of runs that differ in `keys` alone (and in seed); runs without such a partner are left out.

    Each group is sorted by its values of `keys`.
    """
    found: dict[str, list[Evaluated]] = defaultdict(list)
    for each in runs:
        rest = {key: value for key, value in _settings(each).items() if key not in (*keys, "seed")}
        found[repr(sorted(rest.items()))].append(each)
    several = [family for family in found.values() if len({cell_of(each, keys) for each in family}) > 1]
    return [sorted(family, key=lambda each: (cell_of(each, keys), each.subject)) for family in several]


def cell_of(each: Evaluated, keys: Sequence[str]) -> tuple[Any, ...]:
    """Return the evaluation's values of `keys`."""
    settings = _settings(each)
    return tuple(settings[key] for key in keys)


def _settings(each: Evaluated) -> dict[str, Any]:
    """Return all settings that a run's metrics may depend on: the task's own keys, its steps and its seed."""
    settings = {key: value for key, value in each.config.training.model_dump().items() if key not in _IGNORED}
    settings["alpha / rank"] = (each.config.training.lora_alpha or settings["lora_rank"]) / settings["lora_rank"]
    if each.trained is not None:
        settings |= {"steps": each.trained.steps, "seed": int(each.trained.config["seed"])}
    return settings


def _table(
    identity: str,
    keys: Sequence[str],
    cells: Sequence[Evaluated],
    rest: Sequence[Evaluated],
    zero_shot: Sequence[Evaluated],
) -> Table:
    runs = [*cells, *rest]
    first = (*runs, *zero_shot)[0]
    # A run that was stopped early has the steps that it reached.
    settings = [{**_settings(each), "steps": each.steps} for each in runs]
    settings += [{"model": each.config.training.model} for each in zero_shot]
    varying = [key for key in settings[0] if len({repr(one[key]) for one in settings if key in one}) > 1]
    shown = [*keys, *(key for key in varying if key not in (*keys, "steps")), "steps"]
    rows: list[tuple[str, ...]] = []
    values: list[dict[str, Any]] = []

    def add(label: str, kind: str, scores: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        own = [chosen.get(key) for key in shown]
        texts = [f"{value:,}" if isinstance(value, int) else setting(value) for value in own]
        rows.append((label, *texts, *(_cell(scores, name) for name in _FIGURES)))
        exact = {name: {"value": _value(scores, name), **scores["intervals"][name]} for name in _FIGURES}
        values.append({"name": label, "kind": kind, **{key: chosen.get(key) for key in shown}, **exact})

    for each, chosen in zip([*runs, *zero_shot], settings, strict=True):
        kind = "zero-shot" if each.is_zero_shot else "final" if each in rest else "run"
        add(each.subject, kind, each.scores["scores"], chosen)
    notes = []
    for name, scores in first.scores["baselines"].items():
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
    notes.append("In brackets: 95 %, by a bootstrap over series. Original units.")
    headers = ("", *(_NAMES.get(key, key.replace("_", " ")) for key in shown))
    figures = ("MAE", "MSE", "RMSE", "median MAE", "median MSE")
    models = range(len(settings))
    return Table(
        TITLES[identity],
        (*headers, *figures),
        rows,
        notes,
        first.circumstances,
        values,
        identity,
        marked={min(models, key=lambda place: values[place]["mae"]["value"])},
        rule=len(models),
    )


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
    total = "total" if budget["counts_inference"] else "useful + replayed"
    return Table(
        "Table 4: FLOPs of the study, by stage",
        ["stage", "runs", "steps executed", *_KINDS, total, "of the limit"],
        [
            [stage, f"{of:,}", f"{steps:,}", *map(four_digits, flops), f"{100 * flops[-1] / budget['limit']:.2f} %"]
            for stage, (of, steps, *flops) in zip([*budget["by_stage"], "total"], rows, strict=True)
        ],
        [f"By the {budget['convention']} convention, as charged from what the journals show was executed."],
        rule=len(rows) - 1,
    )
