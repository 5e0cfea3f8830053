"""`lvjobs submit`, and what all submitting commands print about the runs that they prepare and submit."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.api.continuation import prepare_continuation
from lvjobs.api.results import Preview, Submission
from lvjobs.api.submit import PreparedRuns, prepare_task, prepare_training
from lvjobs.cli.common import json_option, print_json, print_lines, study_option, tell
from lvjobs.cli.help import Group
from lvjobs.cli.program import WithProgram, program_options, typed_settings
from lvjobs.cli.settings import (
    fit_options,
    overrides,
    profile_option,
    resource_options,
    run_options,
    train_options,
)
from lvjobs.cli.updates import watch_until
from lvjobs.control.planning.fit import Proposal
from lvjobs.errors import UsageError
from lvjobs.report.terminal.estimate_lines import estimate_lines, proposal_lines
from lvjobs.study.config import StudyContext, load_study


@dataclass(frozen=True)
class SubmitOptions:
    """The options of a submitting command. `fit`: propose what fits if the budget refuses; `yes`: without asking."""

    dry_run: bool
    wait: bool
    as_json: bool
    fit: bool = False
    yes: bool = False


def enter_runs(prepared: PreparedRuns, manner: SubmitOptions, changed: str = "") -> None:
    """Submit the runs and print the result; with --wait, wait until they are at rest. With --dry-run, print the script.

    `changed` is printed if other runs than the requested ones were submitted, because they fit the budget.
    """
    if manner.dry_run:
        _print_preview(prepared.preview(fit=manner.fit), manner, prepared.notes)
        return
    submission = prepared.submit((lambda proposal: _agree(proposal, manner)) if manner.fit else None)
    for line in prepared.notes if submission.fit is None or not submission.fit.is_change else ():
        click.echo(f"note: {line}", err=True)
    if submission.fit and changed:
        click.echo(f"note: {changed}", err=manner.as_json)
    _print_outcome(prepared.study, submission, manner)


def _print_preview(preview: Preview, manner: SubmitOptions, notes: Sequence[str] = ()) -> None:
    """Print the script, and below it the cost as shell comments, so that the output is still a script."""
    proposed = preview.fit.as_dict() if preview.fit else None
    if manner.as_json:
        shown = {"schema": 1, "outcome": "dry_run", "script": preview.script, "estimate": preview.estimate}
        print_json({**shown, "fit": proposed, "computed": preview.computed})
        return
    click.echo(preview.script)
    told = [*(f"note: {each}" for each in notes), *([preview.computed] if preview.computed else [])]
    lines = [*told, "-- cost; nothing was submitted --", *estimate_lines(preview.estimate)]
    for line in [*lines, *(proposal_lines(proposed) if proposed else ())]:
        click.echo(f"# {line}".rstrip())


def _agree(proposal: Proposal, manner: SubmitOptions) -> bool:
    """Show the proposal, and ask whether to submit it.

    Raises:
        UsageError: There is no terminal to ask on. Nothing was submitted.
    """
    print_lines(proposal_lines(proposal.as_dict()), err=manner.as_json)
    if not (manner.yes or sys.stdin.isatty()):
        raise UsageError("nothing was submitted, because no terminal can confirm it; add --yes to submit the proposal")
    return manner.yes or click.confirm("Submit this proposal?", err=manner.as_json)


def _print_outcome(study: StudyContext, submission: Submission, manner: SubmitOptions) -> None:
    if not manner.as_json:
        for name, state in submission.existing.items():
            click.echo(f"{name}: already exists ({state}); not submitted again")
        if submission.outcome != "exists":
            click.echo(_outcome(study, submission))
        tell(submission.status)
    if submission.note:
        click.echo(f"note: {submission.note}", err=True)
    names, status = set(submission.names), submission.status
    if manner.wait:
        status = watch_until(study, names, quiet=manner.as_json)
    if manner.as_json:
        print_json(
            {
                "schema": status.stored["schema"],
                "outcome": submission.outcome,
                "job_id": submission.job_id,
                "token": submission.token,
                "said": submission.said,
                "submitted": submission.sent,
                "fit": submission.fit.as_dict() if submission.fit else None,
                "runs": [row for row in status.summary["runs"] if row["name"] in names],
            }
        )


def _outcome(study: StudyContext, submission: Submission) -> str:
    new, said = submission.new, submission.said
    what = new[0] if len(new) == 1 else f"{len(new)} runs"
    if submission.outcome == "submitted":
        shared = ", which they share" if submission.shares_job else ""
        job = f"submitted as job {submission.job_id}{shared}"
        if submission.waiting:
            then = "follow" if shared else "wait for free slots in the queue"
            return f"{what}: the first {submission.sent} {job}; {submission.waiting} {then}"
        return f"{what}: {job}; follow with: {remedies.STATUS(*study.where)}"
    outcomes = {
        "planned": f"planned ({said}); the next update after that submits them",
        "limited": f"{said}; submitted by the next update that finds room",
        "deferred": f"not submitted yet ({said}); the next update tries again",
        "unclear": f"Slurm did not confirm the job ({said}). Nothing is lost: the job has token "
        f"{submission.token}, and the next update adopts or resubmits it",
    }
    return f"{what}: {outcomes[submission.outcome]}: {remedies.RESUME(*study.where)}"


@click.group(cls=Group)
def submit() -> None:
    """Submit a run."""


@submit.command()
@study_option
@profile_option
@train_options
@resource_options
@click.option(
    "--continue", "continues", metavar="RUN", help="Train on from a completed run; --steps counts its steps, too."
)
@click.option("--name", help="Name of the run (default: from its settings).")
@click.option("--dry-run", is_flag=True, help="Print the batch script and the cost; submit nothing.")
@fit_options
@click.option("--evaluate", is_flag=True, help="Also evaluate the run on held-out series when it is trained.")
@click.option("--wait", is_flag=True, help="Wait until the run is finished or held.")
@json_option
def train(
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    continues: str | None,
    name: str | None,
    dry_run: bool,
    fit: bool,
    yes: bool,
    evaluate: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit one training run. A run with the same settings is not submitted twice."""
    study, given = load_study(root), overrides(options, pairs, profile)
    if continues is None:
        prepared = prepare_training(study, given, name, evaluate=evaluate)
    else:
        prepared = prepare_continuation(study, given, name, continues, evaluate=evaluate)
    enter_runs(prepared, SubmitOptions(dry_run, wait, as_json, fit, yes))


@submit.command(cls=WithProgram, options_metavar="[OPTIONS]")
@click.argument("task", required=False)
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with the task's settings."
)
@study_option
@profile_option
@run_options
@resource_options
@program_options
@click.option(
    "--continue", "continues", metavar="RUN", help="Train on from a completed run; --steps counts its steps, too."
)
@click.option("--name", help="Name of the run (default: from its task and settings).")
@click.option("--dry-run", is_flag=True, help="Print the batch script and the cost; submit nothing.")
@fit_options
@click.option("--wait", is_flag=True, help="Wait until the run is finished or held.")
@json_option
def run(
    task: str | None,
    file: Path | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    continues: str | None,
    name: str | None,
    dry_run: bool,
    fit: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit a run of a program (docs/programs.md), or of a function of your own (docs/tasks.md).

    \b
    lvjobs submit run                                   [train] of study.toml
    lvjobs submit run --flops 6e9 -- python train.py    a program and its arguments
    lvjobs submit run package.module:function           a function

    A run with the same settings is not submitted twice.
    """  # noqa: D301 - click reads the backspace, so the docstring cannot be raw
    options |= typed_settings(options)
    study, given = load_study(root), overrides(options, pairs, profile)
    if continues is not None and (task or file or "command" in given.settings):
        other = "the task" if task else "--config" if file else "the program"
        raise UsageError(f"--continue trains the task of the run that it names, with its settings; leave {other} out")
    if continues is None:
        prepared = prepare_task(study, given, name, task, file)
    else:
        prepared = prepare_continuation(study, given, name, continues)
    enter_runs(prepared, SubmitOptions(dry_run, wait, as_json, fit, yes))
