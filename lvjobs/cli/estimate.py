"""`lvjobs estimate`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.costs import RUN
from lvjobs.cli.common import json_option, print_json, study_option, tell_problem
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study
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
    from lvjobs.api.costs import estimate as count
    from lvjobs.report.terminal.estimate_lines import print_estimate

    study, speed = load_study(root), _speed(flops_per_second)
    found = count(study, what, overrides(options, pairs, profile), speed)
    tell_problem(found.problem)
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
