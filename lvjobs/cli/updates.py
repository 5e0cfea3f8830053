"""Commands that carry existing runs on, or end them: `resume`, `watch` (and the wait of `--wait`) and `cancel`."""

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.api.results import Status
from lvjobs.api.select import full_names
from lvjobs.api.study import Study
from lvjobs.api.updates import resume as resume_runs
from lvjobs.api.updates import wait_until_rest
from lvjobs.cli.common import (
    chosen_runs,
    complete_runs,
    json_option,
    print_lines,
    print_update,
    study_option,
    tag_option,
    tell,
    together,
)
from lvjobs.cli.help import Command
from lvjobs.cli.settings import carried_options, overrides, profile_option, resource_options
from lvjobs.records.curves import SHOWN_LOSSES
from lvjobs.study import config

_resume_options = together(
    tag_option,
    study_option,
    profile_option,
    carried_options,
    resource_options,
    click.option("--accept-packages", is_flag=True, help="Continue although packages changed since the last attempt."),
    json_option,
)


@click.command(cls=Command)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@_resume_options
def resume(root: Path, runs: tuple[str, ...], tag: str, **typed: Any) -> None:
    """Update the study and print each change. Held RUNS that are named are resumed with the current code and settings.

    These settings are the profile and [resources], checkpoint_every and keep_last of study.toml, and the options given
    here. What a run trains does not change.
    """
    study = Study.open(root)
    _resume(study, chosen_runs(study, runs, tag) if runs or tag else (), **typed)


@click.command(cls=Command)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@_resume_options
def retry(root: Path, runs: tuple[str, ...], tag: str, **typed: Any) -> None:
    """Submit cancelled or held RUNS again, with the current code and settings, from their newest checkpoints.

    Each run gets a new submission and a new reservation. Evaluations that were cancelled with a run are planned again.
    """
    study = Study.open(root)
    _resume(study, chosen_runs(study, runs, tag), cancelled=True, **typed)


def _resume(
    study: Study,
    names: Sequence[str],
    *,
    profile: str | None,
    pairs: tuple[str, ...],
    accept_packages: bool,
    as_json: bool,
    cancelled: bool = False,
    **options: Any,
) -> None:
    """Resume the runs, with `cancelled` also cancelled ones, and print what changed and what is still held."""
    given = overrides(options, pairs, profile)
    agree = lambda lines: accept_packages or _agree(lines, as_json)  # noqa: E731
    status = resume_runs(study, names, given, agree, cancelled=cancelled)
    print_update(status, as_json=as_json)
    if as_json:
        return
    held = [name for name, state in status.states.items() if state == "held"]
    if held:
        shown, command = remedies.STATUS(*study.where), remedies.RESUME_RUN(*study.where, run=held)
        click.echo(f"held runs: fix the cause that {shown} shows, then: {command}")
    elif not status.changes:
        click.echo("Nothing to resume: every run is finished, running or queued.")


def _agree(lines: Sequence[str], as_json: bool) -> bool:
    """Ask whether runs may continue with other packages. Without a terminal, they may not."""
    if not sys.stdin.isatty():
        return False
    print_lines(lines, err=as_json)
    return click.confirm("Continue with the current packages?", err=as_json)


_WAIT_POLL_SECONDS = 1.0


@click.command(cls=Command)
@study_option
@click.option("--every", default=30.0, show_default=True, help="Seconds between updates.")
def watch(root: Path, every: float) -> None:
    """Update the study until every run is finished or held; print each change."""
    watch_until(Study.open(root), None, quiet=False, every=every)


def watch_until(
    study: config.StudyContext, names: Collection[str] | None, *, quiet: bool, every: float = _WAIT_POLL_SECONDS
) -> Status:
    """Wait until the named runs (None: all) are at rest, print each pass's changes, and return the status.

    `every` is the seconds between passes. `quiet` prints nothing.
    """
    shown: dict[str, str] = {}

    def show(status: Status) -> None:
        tell(status)
        _show_progress(status.stored, shown)

    return wait_until_rest(study, names, every, (lambda _: None) if quiet else show)


def _show_progress(summary: Mapping[str, Any], shown: dict[str, str]) -> None:
    """Print a line for each run whose state or last checkpoint has changed since the last call (`shown`)."""
    for run in summary["runs"]:
        known = [(name, run[name]) for name in SHOWN_LOSSES if run.get(name) is not None]
        loss = "".join(f", {name} {value:.4f}" for name, value in known)
        text = f"{run['state']}, checkpoint at step {run['checkpoint_step']} of {run['steps']}"
        if shown.get(run["name"]) != text:
            shown[run["name"]] = text
            click.echo(f"{run['name']}: {text}{loss}")


@click.command(cls=Command)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@tag_option
@study_option
@click.option("--yes", is_flag=True, help="In a terminal: do not ask.")
@json_option
def cancel(root: Path, runs: tuple[str, ...], tag: str, yes: bool, as_json: bool) -> None:
    """Cancel RUNS: names, ends of names, job ids, stages, or quoted globs. Their checkpoints are kept."""
    study = Study.open(root)
    names = full_names(study, chosen_runs(study, runs, tag))
    if sys.stdin.isatty() and not (yes or as_json):
        shown = f"{names[0]}" if len(names) == 1 else f"{len(names)} runs ({', '.join(names)})"
        if not click.confirm(f"Cancel {shown}?"):
            click.echo("Nothing was cancelled.")
            return
    status = study.cancel(*names)
    print_update(status, as_json=as_json)
    undone = [name for name in names if status.states.get(name) == "cancelled"]
    if as_json or not undone:
        return
    if status.parsed.unanswered_seconds is not None:
        click.echo(
            "note: Slurm did not answer; the next update cancels jobs that are still in the queue. They will not train."
        )
    if len(undone) == 1:
        click.echo(f"to submit it again: {remedies.RETRY(*study.where, run=undone)}")
    else:
        click.echo(f"to submit them again: {remedies.RETRY(*study.where, run=undone)}")
