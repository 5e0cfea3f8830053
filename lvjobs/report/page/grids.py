"""The tables of a page, and Tables 1 to 4 of the published study, for this one, as Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from lvjobs import remedies
from lvjobs.records.curves import LOSSES
from lvjobs.report.budget_table import budget_rows, budget_table
from lvjobs.report.figures.attempts import NOTHING_RAN
from lvjobs.report.numbers import percent, setting, short
from lvjobs.report.page.parts import PageTable
from lvjobs.report.study_tables import StudyTable

_NUMERIC = "n: of a numeric head, over a series' characters alone; not to be compared with the others."
_MOST_REASONS = 10
TABLE_1, TABLE_2, TABLE_3, TABLE_4 = (
    "table-1-flops-of-a-step",
    "table-2-rank-and-rate",
    "table-3-context",
    "table-4-flops",
)


def published_tables(
    step: Mapping[str, Any], summary: Mapping[str, Any], made: Sequence[StudyTable]
) -> tuple[list[PageTable], dict[str, str]]:
    """Return Tables 1 to 4 for the page, and their files' contents by name; a table without rows has no file."""
    files: dict[str, str] = {}
    tables = [_table_1(step, files)]
    for name, number, why in (
        (
            TABLE_2,
            2,
            f"no two evaluated runs differ in rank or learning rate alone; type: {remedies.EVALUATE(runs='RUN')}",
        ),
        (TABLE_3, 3, f"nothing else was evaluated; type: {remedies.EVALUATE(runs='RUN')}"),
    ):
        own = [each for each in made if each.number == number]
        if not own:
            title = f"Table {number}: {'rank and learning rate' if number == 2 else 'context length'}"  # noqa: PLR2004
            tables.append(PageTable(name, title, (), (), missing=why))
            continue
        files |= {f"{name}.md": _together(own, "github"), f"{name}.tex": _together(own, "latex_booktabs")}
        tables += [
            _study_table(each, name if place == 0 else f"{name}-{place + 1}", name) for place, each in enumerate(own)
        ]
    return [*tables, _table_4(summary, files)], files


def _together(made: Sequence[StudyTable], style: Any) -> str:
    return "\n\n".join(each.render(style) for each in made) + "\n"


def _study_table(made: StudyTable, identity: str, stem: str) -> PageTable:
    kinds = [value["kind"] for value in made.values]
    figures = [place for place, kind in enumerate(kinds) if kind != "baseline"]
    best = min(figures, key=lambda place: made.values[place]["mae"]["value"], default=None)
    circumstances = f"{made.circumstances[0].upper()}{made.circumstances[1:]}."
    return PageTable(
        identity,
        made.title,
        made.headers,
        made.rows,
        (circumstances, *made.notes),
        (f"{stem}.md", f"{stem}.tex"),
        frozenset() if best is None else frozenset({best}),
        kinds.index("baseline") if "baseline" in kinds else None,
    )


def _table_1(step: Mapping[str, Any], files: dict[str, str]) -> PageTable:
    title = "Table 1: FLOPs of one training step"
    if step["problem"]:
        return PageTable(TABLE_1, title, (), (), missing=step["problem"])
    conventions = list(step["parts"])
    parts = list(step["parts"][conventions[0]])
    rows = [
        [part.replace("_", " "), *(f"{step['parts'][name][part]:,}" for name in conventions)]
        for part in parts
        if part != "generation"
    ]
    adapted = f"LoRA rank {step['lora_rank']} on {step['lora_targets']}"
    several = f"; a step of the run has {step['accumulate']} of these" if step["accumulate"] > 1 else ""
    note = (
        f"{step['batch_size']} x {step['context_length']} tokens, model {step['model']}, {adapted}: those of "
        f"{step['run']}, which cost most{several}. Conventions side by side: docs/flops.md."
    )
    headers = ["FLOPs", *conventions]
    for style, suffix in (("github", "md"), ("latex_booktabs", "tex")):
        drawn = tabulate(rows, headers, tablefmt=style, disable_numparse=True,
                         colalign=["left", *["right"] * len(conventions)])  # fmt: skip
        files[f"{TABLE_1}.{suffix}"] = _titled(title, drawn, [note], suffix)
    return PageTable(TABLE_1, title, headers, rows, [note], [f"{TABLE_1}.md", f"{TABLE_1}.tex"],
                 frozenset({[row[0] for row in rows].index("step")}))  # fmt: skip


def _table_4(summary: Mapping[str, Any], files: dict[str, str]) -> PageTable:
    title, budget = "Table 4: FLOPs of the study, by stage", summary["budget"]
    if not summary["runs"]:
        return PageTable(TABLE_4, title, (), (), missing=NOTHING_RAN)
    headers, rows = budget_rows(budget, summary["runs"])
    note = f"By the {budget['convention']} convention, as charged from what the journals show was executed."
    for style, suffix in (("github", "md"), ("latex_booktabs", "tex")):
        drawn = budget_table(budget, summary["runs"], style)  # type: ignore[arg-type]
        files[f"{TABLE_4}.{suffix}"] = _titled(title, drawn, [note], suffix)
    return PageTable(TABLE_4, title, headers, rows, [note], [f"{TABLE_4}.md", f"{TABLE_4}.tex"], rule=len(rows) - 1)


def _titled(title: str, drawn: str, notes: Sequence[str], suffix: str) -> str:
    """Return a table in the form of Tables 2 and 3: LaTeX has title and notes as comments, so that it can be input."""
    if suffix == "tex":
        return "\n".join([*(f"% {line}" for line in (title, *notes)), drawn]) + "\n"
    return "\n".join([f"{title}.", "", drawn, "", *notes]) + "\n"


def stage_table(found: Mapping[str, Any]) -> PageTable:
    """Return the table of a stage's candidates, the best first."""
    seeds = any(len(row["runs"]) > 1 for row in found["candidates"])
    headers = ["run", *found["varied"], "value", *(["error", "seeds"] if seeds else []), "steps", "FLOPs"]
    why = any(row["why_not"] for row in found["candidates"])
    rows, won = [], set()
    for place, row in enumerate(found["candidates"]):
        value = "" if row["value"] is None else f"{row['value']:.6g}"
        error = "" if row["standard_error"] is None else short(row["standard_error"])
        cells = [
            row["runs"][0],
            *(setting(row["settings"][key]) for key in found["varied"]),
            value,
            *([error, str(len(row["runs"]))] if seeds else []),
            f"{row['steps']:,}",
            f"{row['flops']:.3e}" if row["flops"] else "",
        ]
        rows.append([*cells, row["why_not"] or ""] if why else cells)
        won |= {place} if row["won"] else set()
    notes = [f"Value: {found['rule']}."] if found["rule"] else []
    if found.get("trials"):
        notes.append(f"{found['proposed']} of {found['trials']} trials proposed.")
    return PageTable(
        f"ranking-{found['stage']}",
        f"Runs of {found['stage']}, the best first",
        [*headers, *(["why it does not compare"] if why else [])],
        rows,
        notes,
        marked=frozenset(won),
    )


def runs_table(runs: Sequence[Mapping[str, Any]]) -> PageTable:
    """Return the table of all runs and their states."""
    headers = [
        "run",
        "stage",
        "state",
        "last end",
        "step",
        "loss",
        "validation",
        "untrained",
        "redone",
        "attempts",
        "FLOPs",
    ]
    rows = [
        [
            run["name"],
            run["stage"],
            run["state"],
            "" if run["cause"] in (None, run["state"]) else run["cause"],
            f"{run['step']:,} of {run['steps']:,}",
            *(_loss(run, name) for name in ("loss", "validation_loss", "untrained_loss")),
            f"{run['replayed_steps']:,}",
            f"{run['attempts']:,}",
            f"{run['flops']:.3e}" if run["flops"] else "0",
        ]
        for run in runs
    ]
    numeric = any(run[f"{kind}{LOSSES[1]}"] is not None for run in runs for kind in ("validation_", ""))
    notes = ["Redone: steps that were lost with a death and executed again.", *([_NUMERIC] if numeric else [])]
    held: dict[str, list[str]] = {}
    for run in runs:
        if run["state"] == "held":
            held.setdefault(run["reason"] or run["error"], []).append(run["name"])
    for reason, names in list(held.items())[:_MOST_REASONS]:
        others = f" and {len(names) - 1:,} more are" if len(names) > 1 else " is"
        notes.append(f"{names[0]}{others} held: {reason}")
    notes += [f"More are held for other reasons; type: {remedies.STATUS}"] if len(held) > _MOST_REASONS else []
    missing = "" if rows else NOTHING_RAN
    return PageTable("runs", "All runs", headers, rows, notes, missing=missing, words=4)


def _loss(run: Mapping[str, Any], name: str) -> str:
    if run[f"{name}_numeric"] is not None:
        return f"{run[f'{name}_numeric']:.4g} n"
    return "" if run[name] is None else f"{run[name]:.4g}"


def efficiency_table(efficiency: Mapping[str, Any]) -> PageTable:
    """Return the table of how the GPUs were used, stage by stage."""
    headers = ["stage", "executions", "hours", "GPU-hours", "GPU-hours used", "goodput", "ETTR"]
    named = [*efficiency["by_stage"].items(), *([("all", efficiency)] if len(efficiency["by_stage"]) > 1 else [])]
    rows = [
        [
            stage,
            f"{share['attempts']:,}",
            *(f"{share[key]:.3g}" for key in ("allocated_hours", "allocated_gpu_hours", "used_gpu_hours")),
            *(percent(share[key]) for key in ("goodput", "ettr")),
        ]
        for stage, share in named
    ]
    notes = ["Goodput: useful step time over allocated time."]
    notes.append("ETTR: useful step time over all time since submission, queueing included.")
    notes.append("An execution that claimed its run twice is there once.")
    if guessed := efficiency["estimated"]:
        notes.append(
            f"{guessed} of {efficiency['attempts']} are estimated: they run, or accounting does not tell of them."
        )
    missing = "" if efficiency["attempts"] else NOTHING_RAN
    return PageTable("efficiency", "How the machines were used", headers, rows, notes, missing=missing,
                 rule=len(rows) - 1 if len(rows) > 1 else None)  # fmt: skip
