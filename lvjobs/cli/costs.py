"""`lvjobs budget`: the FLOPs spent, reserved and free, and their limit."""

from collections.abc import Collection
from pathlib import Path

import click
from click.core import ParameterSource

from lvjobs.api.study import Study
from lvjobs.api.view import budget_of
from lvjobs.cli.common import because_option, json_option, print_json, print_problem, print_problems, study_option, tell
from lvjobs.cli.help import Group
from lvjobs.study.fields import as_float


class _Budget(Group):
    """A group that suggests `set` for a number."""

    def suggested(self, args: list[str], known: Collection[str]) -> str | None:
        """Return the command that the words most likely mean, or None."""
        try:
            as_float(args[0])
        except ValueError:
            return super().suggested(args, known)
        return f"set {args[0]}"


@click.group(cls=_Budget, invoke_without_command=True)
@study_option
@json_option
@click.option("--no-pass", is_flag=True, help="Show the figures of the last update; do not ask the cluster.")
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
        print_problems(status)
        click.echo(f"{made.body('github')}\n\n{made.body('latex_booktabs')}")
        return
    found = budget_of(study, status)
    if not as_json:
        print_problems(status)
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
@click.option("--gpu-hours", default="", metavar="HOURS", help="Limit of GPU-hours, such as 500.")
@because_option("reason", "Reason, recorded in runs.db; required to raise the limit.")
@study_option
@json_option
@click.pass_context
def set_limit(context: click.Context, limit: str, gpu_hours: str, reason: str, root: Path, as_json: bool) -> None:
    """Set the study's limit in FLOPS (such as 1e17), in GPU-hours, or both; study.toml is changed, too.

    Running jobs continue. Waiting runs that no longer fit are held, with a reason; a raised limit releases them.
    """
    if context.get_parameter_source("root") is ParameterSource.DEFAULT and context.parent is not None:
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
            over = "" if free >= 0 else f"; {-free:.4g} more than that is already spent or reserved"
            click.echo(f"the limit is {limited['limit']:.4g} {unit}; {max(free, 0):.4g} are free{over}")
