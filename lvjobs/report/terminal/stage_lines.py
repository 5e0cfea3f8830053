"""Stages for a terminal: their state, what they consist of, and their winners."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lvjobs import remedies
from lvjobs.records.summary import StageStatus
from lvjobs.report.numbers import setting, short
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console
from lvjobs.study.space import Search, in_words
from lvjobs.study.stage_order import taken
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.words import StageState


def print_stages(rows: Sequence[StageStatus]) -> None:
    """Print a line for each stage that was requested."""
    console = new_console()
    for row in rows:
        if row.state != "declared":
            console.print(Text(stage_line(row)), soft_wrap=True)


def stage_line(row: StageStatus) -> str:
    """Return a stage's line: `stage1: running, 5 of 9 done`."""
    words = f"{row.name}: {_shown(row.state)}"
    if row.runs and row.state != "completed":
        words += f", {row.done} of {row.runs} done"
        if row.trials:
            words += f", {row.proposed} of {row.trials} trials proposed"
    if row.winner:
        words += f"; {row.winner} " + ("chosen by hand: " if row.by_hand else "won: ") + row.because
    return words + (f"; {row.reason}" if row.reason else "")


def _shown(state: str) -> str:
    """Return a stage's state as it is displayed; the ledger and JSON have another word for one of them."""
    return "requested" if state == StageState.ASKED else state


def plan_lines(chosen: Sequence[Stage], every: Sequence[Stage], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each stage: what it consists of, and what it waits for."""
    runs = {row["name"]: row["runs"] for row in rows}
    return [f"{stage.name}: {_made_of(stage, every, runs.get(stage.name, 0))}" for stage in chosen]


def _made_of(stage: Stage, every: Sequence[Stage], runs: int) -> str:
    parts = []
    if stage.zero_shot:
        parts.append(f"the base model, prompt {' and '.join(stage.zero_shot)}")
    if stage.evaluate:
        parts.append(f"evaluates every run of {', '.join(stage.evaluate)} after its training")
    if not stage.evaluates:
        grid = " x ".join(f"{key} {values}" for key, values in stage.grid.items())
        of = grid or in_words(stage.space)
        parts.append(f"{runs} run{'s' if runs != 1 else ''}" + (f", {of}" if of else ""))
        if stage.search:
            parts.append(_searched(stage.search))
        if stage.seeds:
            parts.append(f"seeds {stage.seeds}")
        if runs > 1:
            parts.append(f"the winner has the {stage.select.words}")
        if stage.prune and stage.prune.rule == "halving":
            parts.append(_halved(stage.prune, runs, stage.repeats))
    if stage.origin:
        over = [key for key in taken(stage, every) if key not in {*stage.grid, *stage.space, *stage.set}]
        parts.append(f"takes {', '.join(over) or 'nothing'} from {stage.origin}'s winner")
        if stage.continues:
            parts.append("continues that winner's checkpoint")
    if stage.after:
        parts.append(f"depends on {', '.join(stage.after)}")
    return "; ".join(parts)


def _halved(rule: Prune, runs: int, seeds: int) -> str:
    """Return what continues from each rung: candidates, and where these have several seeds, their runs."""
    of = f" of {runs // seeds}"
    rungs = []
    for share, keep in zip(rule.at, rule.keep, strict=True):
        several = f" ({keep * seeds} runs)" if seeds > 1 else ""
        rungs.append(f"at {share} of their steps the best {keep}{of}{several} continue")
        of = ""
    return "; ".join(rungs)


def _searched(search: Search) -> str:
    trials = f"{search.trials} trial{'s' if search.trials > 1 else ''}"
    how = "at random" if search.sampler == "random" else f"by TPE, the first {search.first} at random"
    at_once = "all at once" if search.at_once >= search.trials else f"{search.at_once} at a time"
    return f"{trials} {how}, {at_once}"


def candidates(found: Mapping[str, Any], steps: str = "") -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of a stage's candidates, the best first. `steps` is the format of a number of steps."""
    has_seeds = any(len(row["runs"]) > 1 for row in found["candidates"])
    headers = ["run", *found["varied"], "value", *(["error", "runs"] if has_seeds else []), "steps", "FLOPs"]
    rows = []
    for row in found["candidates"]:
        error = "" if row["standard_error"] is None else short(row["standard_error"])
        cells = [
            row["runs"][0],
            *(setting(row["settings"][key]) for key in found["varied"]),
            "" if row["value"] is None else f"{row['value']:.6g}",
            *([error, str(len(row["runs"]))] if has_seeds else []),
            f"{row['steps']:{steps}}",
            f"{row['flops']:.3e}" if row["flops"] else "",
        ]
        rows.append(cells)
    return headers, rows


def print_standing(found: Mapping[str, Any], where: Sequence[str] = ()) -> None:
    """Print a stage's candidates, the best first; and why the winner won. `where`: see `StudyContext.where`."""
    console = new_console()
    headers, cells = candidates(found)
    marked = zip(found["candidates"], cells, strict=True)
    rows = [["*" if row["won"] else "", *own, row["why_not"] or ""] for row, own in marked]
    console.print(Table(found["stage"], ["", *headers, ""], rows, words=2).for_terminal())
    if found.get("trials"):
        console.print(f"{found['proposed']} of {found['trials']} trials proposed")
    if found["winner"]:
        how = "chosen by hand" if found["by_hand"] else "won"
        console.print(Text(f"* {found['winner']} {how}: {found['because']}"), soft_wrap=True)
    elif found["rule"]:
        console.print(Text(f"{found['stage']} is {found['state']}; the winner has the {found['rule']}"), soft_wrap=True)
    if found["reason"]:
        console.print(Text(found["reason"]), soft_wrap=True)
    console.print(Text(f"curves and heatmaps: {remedies.REPORT(*where)}"), soft_wrap=True)
