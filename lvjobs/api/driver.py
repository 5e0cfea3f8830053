"""The driver: the loop of reconcile passes in its job, its start and stop, and crontab entries in its place."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from lvjobs.api import updates
from lvjobs.api.results import Status
from lvjobs.cluster.crontab import PROGRAMS, install, uninstall
from lvjobs.cluster.inside import WAKE_SIGNAL
from lvjobs.control.backends import driver_name
from lvjobs.control.driver.driver import end_driver, is_wanted, set_stopped
from lvjobs.control.driver.status import cron_entry, job_lines, report
from lvjobs.report.terminal.plain_lines import driver_lines as worded
from lvjobs.study.config import StudyContext

_MOST_PASSES = 20
_TURN_SECONDS = 270.0
"""The time in which all passes of a turn have to end: the job's script allows 300 s (slurm_templates/driver.sh.j2)."""
_PAUSE_SECONDS = 3.0
"""The pause before the next pass after one that changed something, or after a worker's end."""
_STAY_SECONDS = 150.0
"""The time of a turn in which the job waits for the next due pass. Most sites hold a requeued job almost as long."""


def driver_report(study: StudyContext) -> Mapping[str, Any]:
    """Return the driver's report: its jobs, and what the site allows (docs/json.md)."""
    with updates.open_session(study) as session:
        return report(session)


def driver_lines(study: StudyContext, shown: Mapping[str, Any]) -> list[str]:
    """Return the driver's report as lines of text."""
    now = time.time()
    return worded(shown, job_lines(shown, now), now, study.where)


def set_driver(study: StudyContext, *, stopped: bool) -> tuple[Status, Mapping[str, Any]]:
    """Stop the driver, or allow it again; reconcile, and return the status and the driver's report.

    Raises:
        ClusterError: The scheduler did not answer.
    """
    with updates.open_session(study) as session:
        set_stopped(session, stopped=stopped)
        status = Status(session.make_pass())
        if stopped:
            end_driver(session)
        return status, report(session)


def run_turn(study: StudyContext, on_update: Callable[[Status], None]) -> bool:
    """Run one turn of the driver's job: reconcile, and again while there is something to do.

    Args:
        study: The study.
        on_update: Called with the status after each pass.

    Returns:
        Whether the job has to requeue itself for another turn.
    """
    # Kept for `_is_woken` while a pass is made. No thread was started yet: one without this block would swallow it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE_SIGNAL})
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
    """Return the seconds until a pass is due, plus 1 for differing clocks; 0 if none is due in `stay` seconds."""
    left = None if due is None else due - time.time()
    return 0.0 if left is None or left >= stay else max(0.0, left) + 1


def _goes_on(pause: float) -> bool:
    """Wait `pause` seconds, or for a worker's end; return whether another pass follows.

    After a worker's end, wait a moment more, until Slurm knows that its job has ended.
    """
    if _is_woken(pause):
        time.sleep(_PAUSE_SECONDS)
        return True
    return pause > 0


def _is_woken(seconds: float) -> bool:
    """Wait so many seconds for the signal of a worker's end; return whether it came, now or before the call."""
    return signal.sigtimedwait({WAKE_SIGNAL}, seconds) is not None


def install_cron(study: StudyContext, program: str, every: int) -> None:
    """Add an entry to `program` ("crontab" or "scrontab") that makes a pass every `every` minutes."""
    install(program, *cron_entry(study, every, of_slurm=program == "scrontab"), study.where)


def uninstall_cron(study: StudyContext) -> list[str]:
    """Remove the study's entries from crontab and scrontab; return the programs that had one."""
    name = driver_name(study)
    return [program for program in PROGRAMS if uninstall(program, name)]
