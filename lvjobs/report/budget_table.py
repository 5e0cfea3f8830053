"""Table 4 of the report: the study's FLOPs by stage. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs.records.summary import RunStatus
from lvjobs.report.numbers import four_digits
from lvjobs.report.table import Table

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
