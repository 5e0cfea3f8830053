"""Runs for a terminal: the history of one, why it is in its state, those that wait in the queue, and scores."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lvjobs.records.curves import SHOWN_LOSSES
from lvjobs.records.summary import RunStatus
from lvjobs.report.evaluated import read_scores
from lvjobs.report.numbers import duration, short
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import COLOURS, is_plain, new_console, short_start, sparkline, start_words
from lvjobs.study.layout import RunLayout

_TEXT_LEAST = 16
"""The columns that an explanation needs beside its subject; with fewer it is printed below."""
_FIRST, _LAST = 4, 20
"""The number of first and last moments of a long history that are shown, unless all are requested."""

_MOMENTS = {"began": "green", "ended": "yellow", "completed": "bold green", "held": "bold red", "cancelled": "dim"}


def print_history(history: Mapping[str, Any], *, whole: bool, console: Console | None = None) -> None:
    """Print a run's state, and a line for each moment of it; `history` is the JSON of `lvjobs status RUN --json`."""
    console = console or new_console()
    run, moments = history["run"], history["story"]
    console.print(_head(run, console))
    _print_moments(moments, whole=whole, console=console)


def _print_moments(moments: Sequence[Mapping[str, Any]], *, whole: bool, console: Console) -> None:
    """Print a line for each moment, below the day."""
    first, last = (_FIRST, _LAST) if not whole and len(moments) > _FIRST + _LAST + 1 else (len(moments), 0)
    day = ""
    for at, moment in enumerate(moments):
        if first <= at < len(moments) - last:
            if at == first:
                console.print(Text(f"  ... {len(moments) - first - last} more entries: --all", style="dim"))
            continue
        if (today := time.strftime("%a %d %b %Y", time.localtime(moment["time"]))) != day:
            day = today
            console.print(Text(day, style="dim"))
        clock = time.strftime("%H:%M:%S", time.localtime(moment["time"]))
        _print_row(console, Text(clock, style="dim"), Text(moment["text"], style=_MOMENTS.get(moment["kind"], "")))


def _print_row(console: Console, what: Text, text: Text, width: int = 0) -> None:
    """Print two texts side by side, the second in a column of its own; in a pipe, on one line of any length."""
    if not console.is_terminal:
        console.print(Text.assemble("  ", what, " " * max(2, width + 2 - what.cell_len), text), soft_wrap=True)
        return
    if width + 2 + _TEXT_LEAST > console.width:  # a command is printed whole, so that it can be pasted
        console.print(Text.assemble("  ", what), soft_wrap=True)
        console.print(Padding(text, (0, 0, 0, 6)))
        return
    row = rich.table.Table.grid(padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True, min_width=2 + width)
    row.add_column(overflow="fold")
    row.add_row(Text.assemble("  ", what), text)
    console.print(row)


def _head(run: Mapping[str, Any], console: Console) -> Text:
    """Return its name, state, step and the course of its loss."""
    text = Text(run["name"], style="bold")
    text.append(f"  {run['state']}", style=COLOURS[run["state"]])
    text.append(f", step {run['step']} of {run['steps']}", style="not bold")
    for name in (name for name in SHOWN_LOSSES if run.get(name) is not None):
        text.append(f", {name.removesuffix('_numeric').replace('_', ' ')} {run[name]:.4g}", style="not bold")
    if curve := sparkline(run.get("curve") or (), 16, plain=is_plain(console)):
        text.append(f" {curve}", style="not bold")
    if run.get("seconds_left") is not None:
        text.append(f", {duration(run['seconds_left'])} left", style="not bold")
    return text


def print_description(description: Mapping[str, Any], console: Console | None = None) -> None:
    """Print all that is known of a run; `description` is the JSON of `lvjobs show --json`."""
    console = console or new_console()
    run = description["run"]
    text = Text(f"{run['name']}: ", style="bold")
    text.append(description["headline"], style=COLOURS[run["state"]])
    console.print(text, soft_wrap=True)
    for title, rows in description["sections"].items():
        _section(console, title, list(rows.items()))
    console.print(Text("\nhistory", style="dim"))
    _print_moments(description["story"], whole=True, console=console)


def print_why(answer: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the explanation of a run, on one screen; `answer` is the JSON of `lvjobs why --json`."""
    console = console or new_console()
    run = answer["run"]
    headline = Text(f"{run['name']}: ", style="bold")
    headline.append(answer["headline"], style=COLOURS[run["state"]])
    console.print(headline)
    _section(console, "evidence", [(each["what"], each["said"]) for each in answer["evidence"]])
    _block(console, "traceback", answer["traceback"])
    _block(console, f"end of {answer['log']}", answer["printed"])
    if answer["place"]:
        console.print(Text(f"\n{answer['place']}"))
    if answer["alternatives"]:
        console.print("\nSlurm's estimates, which change with the queue")
        console.print(alternatives_table(answer["alternatives"]).for_terminal())
    _block(console, "next", answer["then"], wraps=console.is_terminal)
    _section(console, "commands", [(each["type"], each["why"]) for each in answer["remedies"]])


def _section(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        console.print(Text(f"\n{title}", style="dim"))
    width = max((len(what) for what, _ in rows), default=0)
    for what, text in rows:
        _print_row(console, Text(what), Text(text), width)


def _block(console: Console, title: str, lines: Sequence[str], *, wraps: bool = False) -> None:
    if lines:
        console.print(Text(f"\n{title}", style="dim"))
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=not wraps)


def print_queue(
    waiting: Sequence[RunStatus],
    alternatives: Sequence[Mapping[str, Any]],
    console: Console | None = None,
    *,
    unknown: str = "",
) -> None:
    """Print why jobs wait, and a line for each alternative to the first of them.

    `unknown` is why the queue is not known; the jobs are then those that waited at the last update.
    """
    console = console or new_console()
    if unknown:
        last = ", ".join(run.name for run in waiting) or "none"
        console.print(f"unknown: {unknown}. Waiting at the last update: {last}", soft_wrap=True)
        return
    if not waiting:
        console.print("No job of this study is waiting in the queue.")
        return
    rows = [
        (run.name, run.job_id or "", short_start(run.start_estimate) if run.start_estimate else "unknown", run.reason)
        for run in waiting
    ]
    console.print(Table("", ("run", "job", "expected start", "reason"), rows, words=4).for_terminal())
    if not alternatives:
        console.print(f"\nNo other request was found that starts {waiting[0].name} sooner.", soft_wrap=True)
        return
    console.print(f"\nSlurm's estimates, which change with the queue, for {waiting[0].name}:\n")
    console.print(alternatives_table(alternatives).for_terminal())


def alternatives_table(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of alternative requests, when such a job would start, and what to type for it."""
    rows = []
    for one in alternatives:
        start = one["start"]
        when = f"never: {one['said']}"
        if start is not None:  # an estimate is not exact to the minute
            when = "now" if start <= time.time() + 60 else start_words(start)
        rows.append((one["what"], when, one["type"]))
    return Table("", ("what", "would start", "to apply it, type"), rows, words=3)


def print_scores(files: RunLayout, console: Console | None = None) -> None:
    """Print the scores of an evaluation beside the baselines of the same series; nothing if it is not done."""
    found, console = read_scores(files), console or new_console()
    if found is None:
        return
    series, history, horizon = len(found["systems"]), found["history"], found["horizon"]
    console.print(
        f"\n{series} held-out series ({found['split']}): {history} steps of history, the next {horizon} are forecast"
    )
    nll, crps = found["nll"], found["scores"]["crps"] is not None
    extra = (*(("CRPS",) if crps else ()), *(("NLL",) if nll else ()))
    likelihood = (short(nll["overall"]),) if nll else ()
    rows = [(files.root.name, *_row(found["scores"], crps=crps), *likelihood, f"{100 * found['valid']:.0f} %")]
    made = {name: scores for name, scores in found["baselines"].items() if "problem" not in scores}
    for name, scores in {**made, "rounding alone": found["rounding"]}.items():
        rows.append((name, *_row(scores, crps=crps)))
    headers = ("", "MAE", "95 %", "MSE", "RMSE", "MRE", "median MSE", *extra, "valid")
    console.print(Table("", headers, rows, marked={0}).for_terminal())
    for name, scores in found["baselines"].items():
        if "problem" in scores:
            console.print(f"{name}: {scores['problem']}", soft_wrap=True)
    console.print("Original units. RMSE: mean of each variable's; 95 %: of the MAE, by a bootstrap over series.")
    if nll:
        console.print("NLL: nats per step of the true series as text.")


def _row(scores: Mapping[str, Any], *, crps: bool) -> tuple[str, ...]:
    overall, interval = scores["overall"], scores["intervals"]["mae"]
    values = [short(overall["mae"]), f"{short(interval['low'])}-{short(interval['high'])}"]
    values += [short(overall[key]) for key in ("mse", "rmse", "mre")]
    values.append(short(scores["median_mse"]))
    if crps:
        values.append("" if scores["crps"] is None else short(scores["crps"]))
    return tuple(values)
