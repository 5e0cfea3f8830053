"""`lvjobs estimate` and `lvjobs budget`: FLOPs before and after runs."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.study import Study
from lvjobs.api.view import RUN, budget_of
from lvjobs.cli.common import because_option, json_option, print_json, print_problem, study_option, tell
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.errors import UsageError
from lvjobs.study.fields import as_float


@click.command()
@click.argument("what", required=False, metavar=f"[STAGE|{RUN}]")
@study_option
@profile_option
@train_options
@resource_options
@click.option(
    "--flops-per-second",
    help="Official FLOPs a second, for times of what no run of the same settings was measured for: 5e13.",
)
@json_option
def estimate(
    what: str | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    flops_per_second: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what a run (train), a STAGE, or every stage of study.toml will cost. Nothing is submitted.

    FLOPs by each convention, time, room on disk, and whether the budget has room for it; if not, plans that fit. Data
    need not be there. A stage whose ground is not known yet is counted as if the dearest run had won; evaluation is
    [evaluation] series forecasts with each run of the stages that one evaluates.
    """
    from lvjobs.report.terminal.estimate_lines import print_estimate

    study, speed, given = Study.open(root, new=True), _speed(flops_per_second), overrides(options, pairs, profile)
    found = study.estimate(
        what, given.settings, resources=given.resources, profile=given.profile, flops_per_second=speed
    )
    print_problem(found.problem)
    if as_json:
        print_json({"schema": 1, **found.details})
    else:
        print_estimate(found.details, where=study.where)


def _speed(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        speed = float(as_float(text))
    except ValueError as error:
        raise UsageError(f"--flops-per-second: {error}") from None
    if not 0 < speed < float("inf"):
        raise UsageError(f"--flops-per-second {text}: write a positive number, such as 5e13")
    return speed


@click.group(invoke_without_command=True)
@study_option
@json_option
@click.option("--no-pass", is_flag=True, help="Show the last pass's figures; do not look at the cluster.")
@click.option("--table", is_flag=True, help="Print the study's FLOP summary for a report, in Markdown and in LaTeX.")
@click.pass_context
def budget(context: click.Context, root: Path, as_json: bool, no_pass: bool, table: bool) -> None:
    """Show the FLOPs spent, reserved and left, counted from what the journals show was executed.

    Where [budget] gpu_hours is set, show the same of GPU-hours, from accounting.
    """
    if context.invoked_subcommand is not None:
        return
    study = Study.open(root)
    summary = (status := study.status(reconcile=not no_pass)).stored
    if table and not as_json:
        from lvjobs.report.study_tables import budget_table

        made = budget_table(summary["budget"], status.runs)
        click.echo(f"{made.body('github')}\n\n{made.body('latex_booktabs')}")
        return
    found = budget_of(study, status)
    print_problem(found.problem)
    if as_json:
        print_json({"schema": summary["schema"], **found.details, "still_fits": list(found.still_fits)})
        return
    from lvjobs.report.terminal.budget_lines import print_budget, print_efficiency, print_still_fits

    print_budget(found.details)
    click.echo()
    print_efficiency(found.details["efficiency"])
    click.echo()
    print_still_fits(found.still_fits)


@budget.command("set")
@click.argument("limit", default="", metavar="[FLOPS]")
@click.option("--gpu-hours", default="", metavar="HOURS", help="Set the limit of GPU-hours (500, say).")
@because_option("reason", "Why; needed to raise the limit, and kept in the ledger.")
@study_option
@json_option
@click.pass_context
def set_limit(context: click.Context, limit: str, gpu_hours: str, reason: str, root: Path, as_json: bool) -> None:
    """Set the limit in FLOPS (1e17, say), in GPU-hours, or both, for everything, here and in study.toml.

    What runs goes on. What waits and no longer fits is held, with a reason; a raised limit lets it go on.
    """
    if root == Path() and context.parent is not None:
        root = context.parent.params["root"]  # lvjobs budget --study DIR set LIMIT
    status = Study.open(root).set_budget(limit, reason, gpu_hours)
    shown = status.stored["budget"]
    if as_json:
        print_json({"schema": status.stored["schema"], **shown})
        return
    tell(status)
    limits = {"FLOPs": shown if limit else None, "GPU-hours": shown["gpu_hours"] if gpu_hours else None}
    for unit, limited in limits.items():
        if limited:
            free = limited["free"]
            over = "" if free >= 0 else f"; {-free:.4g} more than that are spent or reserved already"
            click.echo(f"the limit is {limited['limit']:.4g} {unit}; {max(free, 0):.4g} are free{over}")
