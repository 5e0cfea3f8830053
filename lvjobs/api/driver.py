"""The driver: its job's loop of reconcile passes, whether it may run, and passes that cron makes instead."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from lvjobs.api import updates
from lvjobs.api.results import Status
from lvjobs.cluster.inside import WAKE_SIGNAL
from lvjobs.study.config import StudyContext

_MOST_PASSES = 20
_TURN_SECONDS = 270.0
"""By then the last pass is to have ended: its script gives it 300 (slurm_templates/driver.sh.j2)."""
_PAUSE_SECONDS = 3.0
"""Until another look at what a pass has set going, or at a worker that has just ended."""
_STAY_SECONDS = 150.0
"""The job stays for what is due so soon: a little longer than Slurm holds it back, on a usual site, once it leaves."""


def driver_report(study: StudyContext) -> Mapping[str, Any]:
    """Return who reconciles the study while nobody is there (docs/json.md)."""
    from lvjobs.control.driver.status import report
    from lvjobs.control.loop import open_session

    with open_session(study, wait=updates.WRITE_WAIT_SECONDS) as session:
        return report(session)


def driver_lines(study: StudyContext, shown: Mapping[str, Any]) -> list[str]:
    """Return the driver's report in words."""
    from lvjobs.control.driver.status import job_lines
    from lvjobs.report.driver import driver_lines as worded

    now = time.time()
    return worded(shown, job_lines(shown, now), now, study.where)


def set_driver(study: StudyContext, *, stopped: bool) -> tuple[Status, Mapping[str, Any]]:
    """End the driver, or let there be one again; reconcile, and return the status and the driver's report."""
    from lvjobs.control.driver.driver import end_driver, set_stopped
    from lvjobs.control.driver.status import report
    from lvjobs.control.loop import Loop

    def act(session: Loop) -> tuple[str, ...]:
        set_stopped(session, stopped=stopped)
        return ()

    with updates.reconciled(study, act, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
        if stopped:
            end_driver(session)
        return status, report(session)


def run_turn(study: StudyContext, on_update: Callable[[Status], None]) -> bool:
    """Do what the driver's job does: reconcile, and again while there is something to do.

    Args:
        study: The study.
        on_update: Called with the status after each pass.

    Returns:
        Whether the job has to come back later.
    """
    from lvjobs.control.driver.driver import is_wanted

    _listen()
    began, longest = time.monotonic(), 0.0
    for left in reversed(range(_MOST_PASSES)):
        start = time.monotonic()
        with updates.reconciled(study, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
            wanted = is_wanted(session)
        longest = max(longest, time.monotonic() - start)
        on_update(status)
        is_over = status.is_at_rest() and not session.awaits_flops
        if is_over and not session.owes_notice:
            return False
        stay = began + _STAY_SECONDS - time.monotonic()
        pause = _PAUSE_SECONDS if status.changes or session.owes_notice else _until(session.due, stay)
        is_last = left == 0 or time.monotonic() + pause + longest > began + _TURN_SECONDS
        if is_last or not _goes_on(pause):
            break
    return wanted and not is_over


def _until(due: float | None, stay: float) -> float:
    """Return the seconds until a pass is due, and one more: then it is, by any clock. 0: not within `stay` seconds."""
    left = None if due is None else due - time.time()
    return 0.0 if left is None or left >= stay else max(0.0, left) + 1


def _goes_on(pause: float) -> bool:
    """Wait; return whether another pass is to follow. A worker that just ended needs a moment until Slurm knows."""
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
    """Wait for so long, or until a worker that ends wakes us; return whether one did, also if it was before."""
    return signal.sigtimedwait({WAKE_SIGNAL}, seconds) is not None


def install_cron(study: StudyContext, program: str, every: int) -> None:
    """Have passes made every so many minutes by `program`: "crontab" or "scrontab"."""
    from lvjobs.cluster.crontab import install
    from lvjobs.control.driver.status import cron_entry

    install(program, *cron_entry(study, every, of_slurm=program == "scrontab"), study.where)


def uninstall_cron(study: StudyContext) -> list[str]:
    """Take the study out of crontab and scrontab; return those in which it was."""
    from lvjobs.cluster.crontab import PROGRAMS, uninstall
    from lvjobs.control.backends import driver_name

    name = driver_name(study)
    return [program for program in PROGRAMS if uninstall(program, name)]
