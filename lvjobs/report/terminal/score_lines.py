"""Evaluations as tables for a terminal: each model beside the baselines, over the same series."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from lvjobs.report.evaluated import read_scores
from lvjobs.report.numbers import short
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console
from lvjobs.study.layout import RunLayout


def print_evaluations(runs: Sequence[RunLayout], console: Console | None = None) -> None:
    """Print one table for all that forecast the same series with the same prompt; unfinished ones are left out."""
    console = console or new_console()
    groups: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for files in runs:
        found = read_scores(files)
        if found is not None:
            same = ("data_sha256", "split", "systems", "history", "horizon", "prompt")
            key = json.dumps([found[name] for name in same])
            groups.setdefault(key, []).append((files.root.name, found))
    for group in groups.values():
        _print_group(group, console)


def _print_group(group: Sequence[tuple[str, Mapping[str, Any]]], console: Console) -> None:
    first = group[0][1]
    series, history, horizon = len(first["systems"]), first["history"], first["horizon"]
    console.print(
        f"\n{series} held-out series ({first['split']}): {history} steps of history, the next {horizon} are forecast"
    )
    crps = any(found["scores"]["crps"] is not None for _, found in group)
    nll = any(found["nll"] is not None for _, found in group)
    extra = (*(("CRPS",) if crps else ()), *(("NLL",) if nll else ()))
    headers = ("", "MAE", "95 %", "MSE", "RMSE", "MRE", "median MSE", *extra, "valid")
    rows: list[tuple[str, ...]] = []
    for name, found in group:
        likelihood = (short(found["nll"]["overall"]) if found["nll"] else "",) if nll else ()
        rows.append((name, *_row(found["scores"], crps=crps), *likelihood, f"{100 * found['valid']:.0f} %"))
    problems = []
    for name, scores in first["baselines"].items():
        if "problem" in scores:
            problems.append(f"{name}: {scores['problem']}")
        else:
            rows.append((name, *_row(scores, crps=crps)))
    rows.append(("rounding alone", *_row(first["rounding"], crps=crps)))
    console.print(Table("", headers, rows, marked=range(len(group))).for_terminal())
    for line in problems:
        console.print(line, soft_wrap=True)
    console.print("Original units. RMSE: mean of each variable's; 95 %: of the MAE, by a bootstrap over series.")
    if nll:
        console.print("NLL: nats a step of the truth as text, over the characters of a series.")


def _row(scores: Mapping[str, Any], *, crps: bool) -> tuple[str, ...]:
    overall, interval = scores["overall"], scores["intervals"]["mae"]
    values = [short(overall["mae"]), f"{short(interval['low'])}-{short(interval['high'])}"]
    values += [short(overall[key]) for key in ("mse", "rmse", "mre")]
    values.append(short(scores["median_mse"]))
    if crps:
        values.append("" if scores["crps"] is None else short(scores["crps"]))
    return tuple(values)
