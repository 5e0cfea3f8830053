"""`lvjobs watch`, and the waiting of `--wait`."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import existing_study, study_option, tell
from lvjobs.records.curves import LOSSES
from lvjobs.study.config import Study

_WAIT_POLL_SECONDS = 1.0
_RESTING = ("completed", "cancelled", "held", "paused")


@click.command()
@study_option
@click.option("--every", default=30.0, show_default=True, help="Seconds between passes.")
def watch(root: Path, every: float) -> None:
    """Make pass after pass, saying what each did, until every run has ended or is held."""
    watch_until(existing_study(root), None, quiet=False, every=every)


def watch_until(
    study: Study, names: Collection[str] | None, *, quiet: bool, every: float = _WAIT_POLL_SECONDS
) -> dict[str, Any]:
    """Passes until the named runs (all, where None) rest; returns the last summary."""
    from lvjobs.control.loop import open_session

    shown: dict[str, str] = {}
    while True:
        with open_session(study, wait=float("inf")) as session:
            summary = session.make_pass()
        if not quiet:
            tell(summary)
            _show_progress(summary, shown)
        if is_at_rest(summary, names) and (names is not None or not session.awaits_flops):
            return summary
        time.sleep(every)


def is_at_rest(summary: dict[str, Any], names: Collection[str] | None = None) -> bool:
    """Whether of the named runs (all, where None) each has ended, or waits for somebody's word."""
    return all(run["state"] in _RESTING for run in summary["runs"] if names is None or run["name"] in names)


def _show_progress(summary: dict[str, Any], shown: dict[str, str]) -> None:
    """A line for each run whose state or last checkpoint is another than the last time."""
    for run in summary["runs"]:
        known = [(name, run[name]) for name in LOSSES if run.get(name) is not None]
        loss = "".join(f", {name} {value:.4f}" for name, value in known)
        text = f"{run['state']}, checkpoint at step {run['checkpoint_step']} of {run['steps']}"
        if shown.get(run["name"]) != text:
            shown[run["name"]] = text
            click.echo(f"{run['name']}: {text}{loss}")
