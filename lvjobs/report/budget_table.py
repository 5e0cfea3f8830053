"""The study's FLOP summary as a table for its report, in Markdown or LaTeX. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from tabulate import tabulate

from lvjobs.report.numbers import four_digits

Style: TypeAlias = Literal["github", "latex_booktabs"]

_KINDS = ("useful", "replayed", "validation", "generation")


def budget_table(budget: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], style: Style = "github") -> str:
    """Return `budget_rows` as Markdown (`github`), or as LaTeX, which needs the package booktabs (`latex_booktabs`)."""
    headers, rows = budget_rows(budget, runs)
    return tabulate(
        rows,
        headers,
        tablefmt=style,
        disable_numparse=True,  # keeps 3.386e16 as it is written
        colalign=["left", *["right"] * (len(headers) - 1)],
    )


def budget_rows(budget: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return each stage's runs, steps and FLOPs by kind, with their share of the limit; the last row is the sum.

    Args:
        budget: A summary's `budget`: exact integers, summed here before they are rounded to four digits.
        runs: The same summary's `runs`.

    Returns:
        The headers, and the rows as they are printed.
    """
    rows = []
    for stage, counted in budget["by_stage"].items():
        of_stage = [run for run in runs if run["stage"] == stage]
        by_kind = budget["by_stage_and_kind"][stage]
        steps = sum(run["executed_steps"] for run in of_stage)
        rows.append([len(of_stage), steps, *(by_kind[kind] for kind in _KINDS), counted])
    sums = [sum(column) for column in zip(*rows, strict=True)] or [0] * (len(_KINDS) + 3)
    # Kinds that do not count are shown, and the total's header says that they are left out.
    total = "total" if budget["counts_inference"] else "useful + replayed"
    headers = ["stage", "runs", "steps executed", *_KINDS, total, "of the limit"]
    named = zip([*budget["by_stage"], "total"], [*rows, sums], strict=True)
    return headers, [_texts(stage, row, budget["limit"]) for stage, row in named]


def _texts(stage: str, row: Sequence[int], limit: int) -> list[str]:
    runs, steps, *flops = row
    return [stage, f"{runs:,}", f"{steps:,}", *map(four_digits, flops), f"{100 * flops[-1] / limit:.2f} %"]
