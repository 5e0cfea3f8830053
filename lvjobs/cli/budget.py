"""`lvjobs budget`, `lvjobs budget set`."""

from pathlib import Path

import click

from lvjobs.api.costs import budget as budget_of
from lvjobs.api.study import Study
from lvjobs.cli.common import because_option, json_option, print_json, study_option, tell, tell_problem


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
    study = Study.open(root)
    summary = (status := study.status(reconcile=not no_pass)).summary
    if table and not as_json:
        from lvjobs.report.budget_table import budget_table

        made = budget_table(summary["budget"], status.runs)
        click.echo(f"{made.body('github')}\n\n{made.body('latex_booktabs')}")
        return
    found = budget_of(study, status)
    tell_problem(found.problem)
    if as_json:
        print_json({"schema": summary["schema"], **found.details, "still_fits": list(found.still_fits)})
        return
    from lvjobs.report.terminal.budget_lines import print_budget, print_still_fits
    from lvjobs.report.terminal.efficiency_lines import print_efficiency

    print_budget(found.details)
    click.echo()
    print_efficiency(found.details["efficiency"])
    click.echo()
    print_still_fits(found.still_fits)


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
    if root == Path() and context.parent is not None:
        root = context.parent.params["root"]  # lvjobs budget --study DIR set LIMIT
    status = Study.open(root).set_budget(limit, reason)
    shown = status.summary["budget"]
    if as_json:
        print_json({"schema": status.summary["schema"], **shown})
        return
    tell(status)
    free = shown["free"]
    over = "" if free >= 0 else f"; {-free:.4g} more than that are spent or reserved already"
    click.echo(f"the limit is {shown['limit']:.4g} FLOPs; {max(free, 0):.4g} are free{over}")
