"""`lvjobs plan`: the cost of stages or of a run, and plans that fit; also by its older names."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.api.results import Estimate
from lvjobs.api.settings import Overrides
from lvjobs.api.study import Study
from lvjobs.api.sweep import ALL, plan_stages
from lvjobs.api.view import RUN, foresee_stages
from lvjobs.cli.common import json_option, print_json, print_lines, print_problem, study_option, together
from lvjobs.cli.help import Command
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.errors import UsageError
from lvjobs.report.terminal.estimate_lines import print_estimate
from lvjobs.report.terminal.stage_lines import plan_lines
from lvjobs.study.config import StudyContext
from lvjobs.study.fields import as_float
from lvjobs.study.stages import Stage

F = Callable[..., Any]

_options: F = together(
    study_option,
    profile_option,
    train_options,
    resource_options,
    click.option(
        "--flops-per-second",
        help="Official FLOPs per second, such as 5e13, to estimate times where no similar run was measured.",
    ),
    click.option("--conventions", is_flag=True, help="Also show the FLOPs by each convention (docs/flops.md)."),
    json_option,
)


@dataclass(frozen=True)
class _Asked:
    """Options of the command."""

    given: Overrides
    flops_per_second: str | None
    conventions: bool
    as_json: bool


def _asked(
    *,
    profile: str | None,
    pairs: tuple[str, ...],
    flops_per_second: str | None,
    conventions: bool,
    as_json: bool,
    **options: Any,
) -> _Asked:
    return _Asked(overrides(options, pairs, profile), flops_per_second, conventions, as_json)


@click.command(cls=Command)
@click.argument("what", required=False, metavar=f"[STAGE|{RUN}]")
@_options
@click.option("--apply", "number", type=click.IntRange(min=1), metavar="N", help="Write plan N into study.toml.")
def plan(what: str | None, root: Path, number: int | None, **typed: Any) -> None:
    """Show whether all stages, one STAGE, or a single run (train) fit the budget, and their cost. Submit nothing.

    Shows FLOPs by the budget's convention, time and disk space; if it does not fit, plans that do. The data need not
    exist. If the parent stage is undecided, the most expensive candidate is assumed.
    """
    asked, study = _asked(**typed), Study.open(root, new=what == RUN)
    if number is None:
        _show(study, what, asked)
        return
    if what is not None or asked.given != Overrides():
        raise UsageError("--apply writes a plan for all stages of study.toml: leave STAGE and the settings out")
    _apply(study, number)


@click.command(cls=Command)
@click.argument("what", required=False, metavar=f"[STAGE|{RUN}]")
@_options
def estimate(what: str | None, root: Path, **typed: Any) -> None:
    """Show what `lvjobs plan` shows. This is its older name."""
    _note_name()
    _show(Study.open(root, new=True), what, _asked(**typed), checks_models=False)


@click.command(cls=Command, name="plan")
@click.argument("what", required=False, metavar="[STAGE]")
@_options
def sweep_plan(what: str | None, root: Path, **typed: Any) -> None:
    """Show what `lvjobs plan` shows. This is its older name."""
    _note_name()
    _show(Study.open(root), what or ALL, _asked(**typed))


def _note_name() -> None:
    """Say in a terminal that the command has another name now; scripts that read its output see no difference."""
    if sys.stderr.isatty():
        click.echo(f"note: use {remedies.SWEEP_PLAN}; this older name works until the next release", err=True)


def _show(study: Study, what: str | None, asked: _Asked, *, checks_models: bool = True) -> None:
    """Print the cost of a run, of a stage, or of all stages."""
    speed, given = _speed(asked.flops_per_second), asked.given
    if what == RUN or (what is None and not study.config.stage):
        found = study.estimate(
            what, given.settings, resources=given.resources, profile=given.profile, flops_per_second=speed
        )
        print_found_plan(study, [], found, asked.as_json, every_convention=asked.conventions)
        return
    prepared = plan_stages(study, what or ALL, given)
    found = foresee_stages(study, prepared.chosen, prepared.requested, speed)
    try:
        if checks_models:
            prepared.check_models()
    except UsageError as error:
        print_problem(f"submitting now would fail: {error}")
    print_found_plan(study, prepared.chosen, found, asked.as_json, every_convention=asked.conventions)


def print_found_plan(
    study: StudyContext, chosen: Sequence[Stage], found: Estimate, as_json: bool, *, every_convention: bool = False
) -> None:
    """Print the cost of the `chosen` stages, or of a single run (none): whether it fits, the parts, and the stages."""
    print_problem(found.problem)
    if as_json:
        declared = [each.model_dump(mode="json", by_alias=True) for each in chosen]
        print_json({"schema": 1, **({"declared": declared} if chosen else {}), **found.details})
        return
    print_estimate(found.details, where=study.where, every_convention=every_convention)
    if not chosen:
        return
    click.echo()
    print_lines(plan_lines(chosen, study.config.stage, found.details["stages"]))
    if any(each.evaluate for each in chosen) and all(each.evaluates for each in chosen):
        every = remedies.SWEEP_PLAN(*study.where)
        click.echo(f"Evaluations are counted with the stages that train the runs; see: {every}")


def _apply(study: Study, number: int) -> None:
    """Write a plan into study.toml, and print the changes.

    Raises:
        UsageError: All stages fit, or there is no plan of this number. Nothing was changed.
    """
    from lvjobs.control.planning.apply import apply_plan

    plans = study.estimate().details["plans"]
    if not plans:
        raise UsageError(f"there is no plan to apply; see: {remedies.SWEEP_PLAN(*study.where)}")
    if number > len(plans):
        raise UsageError(f"there is no plan {number}; the last one is plan {len(plans)}")
    print_lines(apply_plan(study, plans[number - 1]))
    click.echo(f"study.toml was changed; to submit its stages: {remedies.SWEEP_ALL(*study.where)}")


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
