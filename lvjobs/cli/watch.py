"""`lvjobs watch`, and the wait of `--wait`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from lvjobs.api.results import Status
from lvjobs.api.study import Study
from lvjobs.api.updates import wait_until_rest
from lvjobs.cli.common import study_option, tell
from lvjobs.records.curves import LOSSES
from lvjobs.study import config

_WAIT_POLL_SECONDS = 1.0


@click.command()
@study_option
@click.option("--every", default=30.0, show_default=True, help="Seconds between passes.")
def watch(root: Path, every: float) -> None:
    """Make pass after pass, saying what each did, until every run has ended or is held."""
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
        _show_progress(status.summary, shown)

    return wait_until_rest(study, names, every, (lambda _: None) if quiet else show)


def _show_progress(summary: Mapping[str, Any], shown: dict[str, str]) -> None:
    """Print a line for each run whose state or last checkpoint has changed since the last call (`shown`)."""
    for run in summary["runs"]:
        known = [(name, run[name]) for name in LOSSES if run.get(name) is not None]
        loss = "".join(f", {name} {value:.4f}" for name, value in known)
        text = f"{run['state']}, checkpoint at step {run['checkpoint_step']} of {run['steps']}"
        if shown.get(run["name"]) != text:
            shown[run["name"]] = text
            click.echo(f"{run['name']}: {text}{loss}")
