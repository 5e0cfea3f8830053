"""The page as plain values, composed of a study's ledger, journals and evaluations. Pure: it reads its arguments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import count
from typing import Any

from lvjobs import remedies
from lvjobs.forecasting.baselines import BASELINES
from lvjobs.ledger.records import RunRecord
from lvjobs.records.summary import StageStatus, Summary
from lvjobs.report.chosen import Choices, choose
from lvjobs.report.comparisons import compare_all, comparison_table
from lvjobs.report.figures.attempts import Spans, at_once, burn_down, by_stage, gantt
from lvjobs.report.figures.elements import Chart
from lvjobs.report.figures.forecasts import scores
from lvjobs.report.figures.stages import stage_heat
from lvjobs.report.figures.study import charts
from lvjobs.report.horizon_table import horizon_tables
from lvjobs.report.material import NOTHING_EVALUATED, Material
from lvjobs.report.numbers import percent
from lvjobs.report.origin_table import origin_tables
from lvjobs.report.page.answer import answer_forecasts, answer_stages
from lvjobs.report.page.grids import (
    Origin,
    efficiency_table,
    machines,
    published_tables,
    results,
    runs_table,
    stage_table,
    with_files,
)
from lvjobs.report.page.pieces import KeyFigure, Page, Piece, Section, Text, numbered
from lvjobs.report.study_tables import study_tables
from lvjobs.report.table import Table
from lvjobs.study.digits import in_digits
from lvjobs.tasks.registry import task_of

_MOST_CAUSES = 4
_MOST_CURVES = 12
_STAGE_LESS = "these runs were submitted one by one, so no stage compares them"


def compose(
    name: str,
    data: Mapping[str, Any],
    material: Material,
    origins: Mapping[str, Origin],
    *,
    declared: str = "",
    version: str = "",
) -> tuple[Page, dict[str, str]]:
    """Return the page, and the tables beside it by file name.

    Args:
        name: The study's name.
        data: The ledger's data, from `control.inspect.report_data`.
        material: The data of the figures.
        origins: The origin of each run's result, by the run's name.
        declared: The content of study.toml.
        version: The release of lvjobs that writes the page.
    """
    summary, spans = data["summary"], data["spans"]
    runs: Sequence[RunRecord] = data["runs"]
    choices = choose(material)
    compared = compare_all(choices, material)
    forecasts = bool(material.evaluations) or any(task_of(run.config).can_be_evaluated for run in runs)
    if forecasts or not runs:
        answer = answer_forecasts(material, choices, compared, has_runs=bool(runs))
    else:
        answer = answer_stages(summary.stages, summary.runs)
    made = "The study was never updated"
    if summary.time:
        last = datetime.fromtimestamp(summary.time, timezone.utc)
        made = last.strftime("As of %d %B %Y, %H:%M UTC, the last update")
    drawn = list(charts(material, _MOST_CURVES))
    tables, files = _tables(data, material, choices)
    lead: list[Piece] = [*_baselines(choices), scores(choices)] if material.evaluations else []
    if comparisons := comparison_table(compared, choices):
        placed, own_files = with_files([comparisons])
        lead += placed
        files |= own_files
    of_stages = [each for each in drawn if each.number in ("Figure 2", "Figure 3")]
    others: Sequence[Piece] = [each for each in drawn if each not in of_stages]
    if not material.evaluations:
        of_stages = [each for each in of_stages if each.number == "Figure 2"]
        others = _without_forecasts(drawn[0], has_runs=bool(runs), forecasts=forecasts)
    budget = summary.budget
    sections = [
        Section("stages", "Stages", _stages(data, of_stages)),
        Section("tables", "Tables", tables),
        Section("forecasts", "Forecasts", others),
        Section("budget", "Budget", _budget(spans, budget)),
        Section("attempts", "Attempts", [gantt(spans), at_once(spans)]),
        Section("runs-section", "Runs", [runs_table(summary.runs)]),
        Section("provenance", "Provenance", _provenance(runs, origins, spans, declared)),
    ]
    page = Page(
        title=name,
        answer=answer,
        figures=key_figures(summary, spans),
        sections=[],
        made=made,
        version=version,
    )
    numbers = count(1)
    return replace(page, lead=numbered(lead, numbers), sections=numbered(sections, numbers)), files


def _baselines(choices: Choices) -> list[Piece]:
    """Return what each baseline is, for readers of its short name."""
    if not choices.drawn:
        return []
    names = [name for name in choices.drawn[0].runs[0].scores["baselines"] if name in BASELINES]
    width = max(map(len, names), default=0)
    lines = "\n".join(f"{name:{width}}  {BASELINES[name].description}" for name in names)
    return [Text("What the baselines are", lines)] if names else []


def _tables(data: Mapping[str, Any], material: Material, choices: Choices) -> tuple[list[Table], dict[str, str]]:
    """Return the tables, and the contents of their files by name."""
    evaluations, chosen = material.evaluations, choices.marked
    tables, files = published_tables(data["step"], data["summary"], study_tables(evaluations, chosen))
    for own in (horizon_tables(evaluations, chosen), origin_tables(evaluations, chosen)):
        if own:
            placed, own_files = with_files(own)
            tables += placed
            files |= own_files
    return tables, files


def key_figures(summary: Summary, spans: Sequence[Mapping[str, Any]]) -> list[KeyFigure]:
    """Return the numbers at the top of the page."""
    runs, budget = summary.runs, summary.budget
    done = sum(run.state == "completed" for run in runs)
    failures = Counter(span["cause"] for span in spans if span["cause"] not in (None, "completed"))
    by_cause = ", ".join(f"{number:,} {cause}" for cause, number in failures.most_common(_MOST_CAUSES))
    rest = sum(failures.values()) - sum(number for _, number in failures.most_common(_MOST_CAUSES))
    by_cause += f", {rest:,} of other causes" if rest else ""
    rest_of = {
        "held": sum(run.state == "held" for run in runs),
        "pruned": sum(run.held_for == "pruned" for run in runs),
    }
    resting = ", ".join(f"{number:,} {word}" for word, number in rest_of.items() if number)
    steps = budget["useful"] + budget["replayed"]
    efficiency = budget["efficiency"]
    return [
        KeyFigure(f"{done:,} of {len(runs):,}", "runs completed", resting),
        KeyFigure(f"{len(spans):,}", "attempts", "executions of these runs"),
        KeyFigure(f"{sum(failures.values()):,}", "failed attempts", by_cause or "none"),
        KeyFigure(
            in_digits(budget["spent"], 3),
            "FLOPs spent",
            f"{100 * budget['spent'] / budget['limit']:.3g} % of {in_digits(budget['limit'], 3)}",
        ),
        KeyFigure(
            percent(budget["replayed"] / steps) if steps else "none",
            "of training FLOPs repeated",
            "lost in a failure, repeated",
        ),
        KeyFigure(percent(efficiency["goodput"]) or "none", "goodput", "useful step time of allocated time"),
        KeyFigure(
            percent(efficiency["ettr"]) or "none",
            "effective training time (ETTR)",
            "useful step time of all time since submission",
        ),
    ]


def _stages(data: Mapping[str, Any], found: Sequence[Chart]) -> list[Piece]:
    """Return a group for each stage: why its winner won, its runs, their losses, and how they compare."""
    rows = {row.name: row for row in data["summary"].stages if row.state != "declared" or row.runs}
    standings = {found["stage"]: found for found in data["standings"]}
    drawn: dict[str, list[Chart]] = {}
    for each in found:
        drawn.setdefault(each.stage, []).append(each)
    lone = drawn.pop("", [])
    groups: list[Piece] = []
    for name in [*rows, *(name for name in drawn if name not in rows)]:
        pieces: list[Piece] = []
        if name in rows:
            pieces.append(_stands(rows[name]))
        else:
            pieces.append(f"No stage of study.toml has this name: {_STAGE_LESS}.")
        if name in standings:
            pieces.append(stage_table(standings[name]))
            heat = stage_heat(standings[name])
            pieces += [] if heat is None else [heat]
        pieces += drawn.get(name, [])
        badge = rows[name].state if name in rows else ""
        groups.append(Section(f"stage-{name}", name, pieces, badge))
    if not groups:
        groups.append(f"No stage has begun; type: {remedies.SWEEP_ALL}")
    return [*groups, *lone]


def _stands(row: StageStatus) -> str:
    counted = f"{row.done:,} of {row.runs:,} runs completed."
    if row.winner:
        how = "was chosen by hand" if row.by_hand else "won"
        counted = f"{row.winner} {how}: {row.because}. {counted}"
    return f"{counted} {row.reason}".strip()


def _without_forecasts(examples: Chart, *, has_runs: bool, forecasts: bool) -> list[Piece]:
    """Return the figures of a study in which nothing was evaluated: one line replaces all figures of errors."""
    why = NOTHING_EVALUATED
    title = "Forecasts with bands, errors by step, over systems and by context, beside the baselines"
    if not forecasts and has_runs:
        why = "these runs have a task of your own; lvjobs evaluates only runs that forecast series"
    missing = Chart("forecasts-missing", title, missing=why)
    return [missing] if examples.missing and not forecasts else [examples, missing]


def _budget(spans: Sequence[Mapping[str, Any]], budget: Mapping[str, Any]) -> list[Piece]:
    pieces: list[Piece] = [
        burn_down(spans, budget),
        by_stage(budget),
        efficiency_table(budget["efficiency"], budget.get("gpu_hours")),
    ]
    if advice := budget["efficiency"]["checkpoint_advice"]:
        lines = "\n".join(f"{item['stage']}: {item['words']}" for item in advice)
        pieces.append(Text("Advice on the interval between checkpoints, from failures", lines))
    return pieces


def _continued(runs: Sequence[RunRecord]) -> list[Piece]:
    """Return which runs continue others, and from where; nothing if none does."""
    found = [(run, parent) for run in runs if (parent := run.configuration.parent) is not None]
    lines = "\n".join(
        f"{run.name}: steps {parent.step + 1} to {run.steps}, from the checkpoint of step {parent.step} of "
        f"{parent.run} ({parent.sha256[:16]}), to which the steps before are charged"
        for run, parent in found
    )
    return [Text("Runs that continue others", lines, folds=False)] if found else []


def _provenance(runs: Sequence[RunRecord], origins: Mapping[str, Origin], spans: Spans, declared: str) -> list[Piece]:
    codes = sorted({run.code for run in runs if run.code})
    commands = [
        "# the same study again, in an empty directory with this study.toml and the same data file:",
        f"{remedies.SWEEP_PLAN}   # what it will cost",
        str(remedies.SWEEP_ALL),
        str(remedies.REPORT),
    ]
    if codes:
        commands += ["", "# the code that each run was submitted with is kept in this study:"]
        commands += [f".lvjobs/code/{code}" for code in codes]
    return [
        results(runs, origins, spans),
        *_continued(runs),
        machines(origins, spans),
        Text("the current study.toml", declared or "there is none"),
        Text("How to do it again", "\n".join(commands), folds=False),
    ]
