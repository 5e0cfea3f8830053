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

_MORE_TO_COME = 75


@click.group()
def driver() -> None:
    """The job that makes passes while nobody is there (docs/driver.md)."""


@driver.command()
@study_option
@json_option
def status(root: Path, as_json: bool) -> None:
    """Show who makes passes over the study."""
    study = Study.open(root)
    shown = driver_report(study)
    found = {"schema": 1, **{key: value for key, value in shown.items() if key != "scrontab"}}
    print_found(found, driver_lines(study, shown), as_json=as_json)


@driver.command()
@study_option
def start(root: Path) -> None:
    """Let there be a driver again, after `lvjobs driver stop` or a refusal; and make a pass."""
    _set(root, stopped=False)


@driver.command()
@study_option
def stop(root: Path) -> None:
    """End the driver. Runs go on in their jobs; what follows waits until somebody makes a pass."""
    _set(root, stopped=True)


def _set(root: Path, *, stopped: bool) -> None:
    study = Study.open(root)
    status, shown = set_driver(study, stopped=stopped)
    tell(status)
    print_lines(driver_lines(study, shown))


@driver.command()
@study_option
def run(root: Path) -> None:
    """Make a pass, and more while there is something to do, as the driver's job. Exit code 75: more is to come."""
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
@click.option("--scrontab", is_flag=True, help="In Slurm's own crontab, where the site offers one.")
@click.option("--every", default=5, show_default=True, type=click.IntRange(1, 59), help="Minutes between passes.")
def install(root: Path, scrontab: bool, every: int) -> None:
    """Have passes made by cron instead, where no job may keep itself going; in this machine's crontab by default."""
    study = Study.open(root)
    program = "scrontab" if scrontab else "crontab"
    install_cron(study, program, every)
    often = "minute" if every == 1 else f"{every} minutes"
    click.echo(f"{program}: a pass every {often}; to end it, type: {remedies.DRIVER_UNINSTALL(*study.where)}")


@driver.command()
@study_option
def uninstall(root: Path) -> None:
    """Take the study out of crontab and scrontab."""
    found = uninstall_cron(Study.open(root))
    click.echo(f"{' and '.join(found)}: the study's entry is gone" if found else "there was no entry of this study")
