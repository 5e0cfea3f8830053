"""`lvjobs budget`, `lvjobs budget set`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import (
    READ_WAIT_SECONDS,
    WRITE_WAIT_SECONDS,
    because_option,
    current_summary,
    existing_study,
    json_option,
    print_json,
    study_option,
    tell,
)
from lvjobs.errors import UsageError
from lvjobs.study.config import Study, validated
from lvjobs.study.tables import Budget


@click.group(invoke_without_command=True)
@study_option
@json_option
@click.option("--no-pass", is_flag=True, help="Show the last pass's figures; do not look at the cluster.")
@click.option("--table", is_flag=True, help="Print the study's FLOP summary for a report, in Markdown and in LaTeX.")
@click.pass_context
def budget(context: click.Context, root: Path, as_json: bool, no_pass: bool, table: bool) -> None:
    """Show the FLOPs spent, reserved and left, counted from what the journals show was executed."""
    if context.invoked_subcommand is not None:
        return
    study = existing_study(root)
    summary = current_summary(study, make_pass=not no_pass)
    if as_json:
        print_json({"schema": summary["schema"], **summary["budget"], "still_fits": _still_fits(study, summary)})
        return
    if table:
        from lvjobs.report.budget_table import budget_table

        click.echo(budget_table(summary["budget"], summary["runs"]))
        click.echo("\n" + budget_table(summary["budget"], summary["runs"], "latex_booktabs"))
        return
    from lvjobs.report.budget import print_budget, print_still_fits
    from lvjobs.report.efficiency import print_efficiency

    print_budget(summary["budget"])
    click.echo()
    print_efficiency(summary["budget"]["efficiency"])
    click.echo()
    print_still_fits(_still_fits(study, summary))


def _still_fits(study: Study, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far what is free goes for the stages to come; nothing, with a note, where that cannot be counted."""
    over = {stage["name"] for stage in summary["stages"] if stage["state"] == "completed"}
    if all(stage.name in over for stage in study.config.stage):
        return []
    from lvjobs.cli.settings import declared
    from lvjobs.control.planning.foresee import look, unfolded, what_still_fits

    try:
        asked = declared(study)
        seen = look(study, READ_WAIT_SECONDS)
        return [] if seen.problem else what_still_fits(study, unfolded(study, asked, seen), seen, asked.profile)
    except UsageError as error:
        click.echo(f"note: what the declared stages would take cannot be counted: {error}", err=True)
        return []


@budget.command("set")
@click.argument("limit")
@because_option("reason", "Why; needed to raise the limit, and kept in the ledger.")
@study_option
@json_option
@click.pass_context
def set_limit(context: click.Context, limit: str, reason: str, root: Path, as_json: bool) -> None:
    """Set the LIMIT (1e17, say) for everything, here and in study.toml.

    What runs goes on. What waits and no longer fits is held, with a reason; a raised limit lets it go on.
    """
    from lvjobs.control.budget.limit import change_limit
    from lvjobs.control.loop import open_session

    if root == Path() and context.parent is not None:
        root = context.parent.params["root"]  # lvjobs budget --study DIR set LIMIT
    study = existing_study(root)
    flops = validated(Budget, {"limit": limit}, "LIMIT").limit
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        change_limit(session.study, session.ledger, flops, limit, reason, session.clock())
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:  # which reads study.toml anew
        summary = session.make_pass()
    if as_json:
        print_json({"schema": summary["schema"], **summary["budget"]})
        return
    tell(summary)
    free = summary["budget"]["free"]
    over = "" if free >= 0 else f"; {-free:.4g} more than that are spent or reserved already"
    click.echo(f"the limit is {flops:.4g} FLOPs; {max(free, 0):.4g} are free{over}")
