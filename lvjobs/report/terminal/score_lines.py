"""Evaluations as tables for a terminal: each model beside the baselines, over the same series."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from lvjobs.report.evaluated import read_scores
from lvjobs.report.numbers import short
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console
from lvjobs.study.layout import RunLayout


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
        console.print("NLL: nats a step of the truth as text, over the characters of a series.")


def _row(scores: Mapping[str, Any], *, crps: bool) -> tuple[str, ...]:
    overall, interval = scores["overall"], scores["intervals"]["mae"]
    values = [short(overall["mae"]), f"{short(interval['low'])}-{short(interval['high'])}"]
    values += [short(overall[key]) for key in ("mse", "rmse", "mre")]
    values.append(short(scores["median_mse"]))
    if crps:
        values.append("" if scores["crps"] is None else short(scores["crps"]))
    return tuple(values)
