"""`lvjobs driver`."""

import sys
import time
from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.api.driver import driver_lines, driver_report, install_cron, run_turn, set_driver, uninstall_cron
from lvjobs.api.results import Status
from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_found, print_lines, study_option, tell
from lvjobs.cli.help import Group

_MORE_TO_COME = 75


@click.group(cls=Group)
def driver() -> None:
    """Manage the background job that keeps the study going (docs/driver.md)."""


@driver.command()
@study_option
@json_option
def status(root: Path, as_json: bool) -> None:
    """Show who updates the study."""
    study = Study.open(root)
    shown = driver_report(study)
    found = {"schema": 1, **{key: value for key, value in shown.items() if key != "scrontab"}}
    print_found(found, driver_lines(study, shown), as_json=as_json)


@driver.command()
@study_option
def start(root: Path) -> None:
    """Start the driver again after `lvjobs driver stop` or a refusal, and update the study."""
    _set(root, stopped=False)


@driver.command()
@study_option
def stop(root: Path) -> None:
    """Stop the driver. Running jobs continue; later runs wait for the next update."""
    _set(root, stopped=True)


def _set(root: Path, *, stopped: bool) -> None:
    study = Study.open(root)
    status, shown = set_driver(study, stopped=stopped)
    tell(status)
    print_lines(driver_lines(study, shown))


@driver.command()
@study_option
def run(root: Path) -> None:
    """Update the study while there is work, as the driver's job does. Exit code 75: more work follows."""
    if run_turn(Study.open(root), _log):
        sys.exit(_MORE_TO_COME)


def _log(status: Status) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    for line in status.changes:
        click.echo(f"{now} {line}")
    for line in status.problems:
        click.echo(f"{now} note: {line}", err=True)


@driver.command()
@study_option
@click.option("--scrontab", is_flag=True, help="Use Slurm's own crontab, if the site offers one.")
@click.option("--every", default=5, show_default=True, type=click.IntRange(1, 59), help="Minutes between updates.")
def install(root: Path, scrontab: bool, every: int) -> None:
    """Update the study from this machine's crontab, where the site allows no driver job."""
    study = Study.open(root)
    program = "scrontab" if scrontab else "crontab"
    install_cron(study, program, every)
    often = "minute" if every == 1 else f"{every} minutes"
    click.echo(
        f"{program}: updates the study every {often}; to remove it, type: {remedies.DRIVER_UNINSTALL(*study.where)}"
    )


@driver.command()
@study_option
def uninstall(root: Path) -> None:
    """Remove the study from crontab and scrontab."""
    found = uninstall_cron(Study.open(root))
    click.echo(f"{' and '.join(found)}: removed the study's entry" if found else "no entry of this study was found")
