"""`lvjobs driver`."""

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell
from lvjobs.cli.watch import is_at_rest
from lvjobs.cluster.inside import WAKE_SIGNAL

_MOST_PASSES = 20
_TURN_SECONDS = 270.0
"""By then the last pass is to have ended: its script gives it 300 (slurm_templates/driver.sh.j2)."""
_PAUSE_SECONDS = 3.0
"""Until another look at what a pass has set going, or at a worker that has just ended."""
_STAY_SECONDS = 150.0
"""The job stays for what is due so soon: a little longer than Slurm holds it back, on a usual site, once it leaves."""
_MORE_TO_COME = 75


@click.group()
def driver() -> None:
    """The job that makes passes while nobody is there (docs/driver.md)."""


@driver.command()
@study_option
@json_option
def status(root: Path, as_json: bool) -> None:
    """Show who makes passes over the study."""
    from lvjobs.control.driver.status import report
    from lvjobs.control.loop import open_session
    from lvjobs.report.driver import driver_lines

    study = existing_study(root)
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        shown = report(session)
    if as_json:
        del shown["scrontab"]
        print_json({"schema": 1, **shown})
        return
    for line in driver_lines(shown, time.time(), study.where):
        click.echo(line)


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
    from lvjobs.control.driver.driver import end_driver, set_stopped
    from lvjobs.control.driver.status import report
    from lvjobs.control.loop import open_session
    from lvjobs.report.driver import driver_lines

    study = existing_study(root)
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        set_stopped(session, stopped=stopped)
        tell(session.make_pass())
        if stopped:
            end_driver(session)
        shown = report(session)
    for line in driver_lines(shown, time.time(), study.where):
        click.echo(line)


@driver.command()
@study_option
def run(root: Path) -> None:
    """What the driver's job does: a pass, and more while there is something to do. Exit code 75: more is to come."""
    from lvjobs.control.driver.driver import is_wanted
    from lvjobs.control.loop import open_session

    _listen()
    study = existing_study(root)
    began, longest = time.monotonic(), 0.0
    for left in reversed(range(_MOST_PASSES)):
        start = time.monotonic()
        with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
            summary = session.make_pass()
            wanted = is_wanted(session)
        longest = max(longest, time.monotonic() - start)
        _log(summary)
        is_over = is_at_rest(summary) and not session.awaits_flops
        if is_over and not session.owes_notice:
            return
        stay = began + _STAY_SECONDS - time.monotonic()
        pause = _PAUSE_SECONDS if summary["did"] or session.owes_notice else _until(session.due, stay)
        is_last = left == 0 or time.monotonic() + pause + longest > began + _TURN_SECONDS
        if is_last or not _goes_on(pause):
            break
    if wanted and not is_over:
        sys.exit(_MORE_TO_COME)


def _log(summary: Mapping[str, Any]) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    for line in summary["did"]:
        click.echo(f"{now} {line}")
    for line in summary["problems"]:
        click.echo(f"{now} note: {line}", err=True)


def _until(due: float | None, stay: float) -> float:
    """Seconds until a pass is due, and one more: then it is, by any clock. 0: not within `stay` seconds."""
    left = None if due is None else due - time.time()
    return 0.0 if left is None or left >= stay else max(0.0, left) + 1


def _goes_on(pause: float) -> bool:
    """Wait; say whether another pass is to follow. A worker that has just ended needs a moment until Slurm knows."""
    if _is_woken(pause):
        time.sleep(_PAUSE_SECONDS)
        return True
    return pause > 0


def _listen() -> None:
    """Keep what `lvjobs.cluster.inside.wake` sends for `_is_woken`, also while a pass is made.

    Before any thread is started: they inherit it, and one that did not would take the signal and do nothing.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE_SIGNAL})


def _is_woken(seconds: float) -> bool:
    """Wait for so long, or until a worker that ends wakes us; say whether one did, also if it was before."""
    return signal.sigtimedwait({WAKE_SIGNAL}, seconds) is not None


@driver.command()
@study_option
@click.option("--scrontab", is_flag=True, help="In Slurm's own crontab, where the site offers one.")
@click.option("--every", default=5, show_default=True, type=click.IntRange(1, 59), help="Minutes between passes.")
def install(root: Path, scrontab: bool, every: int) -> None:
    """Have passes made by cron instead, where no job may keep itself going; in this machine's crontab by default."""
    from lvjobs.cluster.crontab import install as install_entry
    from lvjobs.control.driver.status import cron_entry

    study = existing_study(root)
    program = "scrontab" if scrontab else "crontab"
    install_entry(program, *cron_entry(study, every, of_slurm=scrontab), study.where)
    often = "minute" if every == 1 else f"{every} minutes"
    click.echo(f"{program}: a pass every {often}; to end it, type: {remedies.DRIVER_UNINSTALL(*study.where)}")


@driver.command()
@study_option
def uninstall(root: Path) -> None:
    """Take the study out of crontab and scrontab."""
    from lvjobs.cluster.crontab import PROGRAMS
    from lvjobs.cluster.crontab import uninstall as uninstall_entry
    from lvjobs.control.backends import driver_name

    name = driver_name(existing_study(root))
    found = [program for program in PROGRAMS if uninstall_entry(program, name)]
    click.echo(f"{' and '.join(found)}: the study's entry is gone" if found else "there was no entry of this study")
