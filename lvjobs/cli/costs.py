"""`lvjobs estimate` and `lvjobs budget`: FLOPs before and after runs."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lvjobs.api.study import Study
from lvjobs.api.view import RUN, budget_of
from lvjobs.cli.common import because_option, json_option, print_json, print_problem, study_option, tell
from lvjobs.cli.help import Command, Group
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.errors import UsageError
from lvjobs.study.fields import as_float


@click.command(cls=Command)
@click.argument("what", required=False, metavar=f"[STAGE|{RUN}]")
@study_option
@profile_option
@train_options
@resource_options
@click.option(
    "--flops-per-second",
    help="Official FLOPs per second, such as 5e13, to estimate times where no similar run was measured.",
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
    """Show the cost of a run (train), of a STAGE, or of every stage of study.toml. Submit nothing.

    Shows FLOPs by each convention, time, disk space, and whether the budget allows it; if not, plans that fit. The data
    need not exist. If the parent stage is undecided, the most expensive candidate is assumed.
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
        raise UsageError(f"--flops-per-second: {error}; write one, such as 5e13") from None
    if not 0 < speed < float("inf"):
        raise UsageError(f"--flops-per-second {text}: write a positive number, such as 5e13")
    return speed


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
