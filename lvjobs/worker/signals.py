"""Signals: a handler that only sets a flag. The step ends; then the run stops.

A step, or the loading of a model, may last longer than the grace period. `report_at_once` therefore reports the
signal, from a thread, so that the kill that follows can be told from other kills.

SIGTERM (default preemption, scancel), SIGUSR1 and SIGUSR2 (the batch script's `--signal`) ask the run to stop. SIGCONT
often comes alone before them and means nothing.

Slurm signals every process of a step, so the worker's children get the signals too, and must survive them:

* forked children (a DataLoader's workers under `fork`) are shielded by a fork hook. They block the signals rather than
  only ignore them, because torch installs a SIGTERM handler of its own in DataLoader workers;
* anything that is executed (subprocess, `spawn`) inherits the mask of the thread that starts it: start it inside
  `shielded()`. A shell may clear its mask (dash does): give it `preexec_fn=deafen`, because ignored signals stay
  ignored.

Only SIGKILL (`Process.kill`) ends a shielded child, SIGTERM does not: do not use `multiprocessing.Pool.terminate()`.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

_received: list[str] = []


def _remember(number: int, _frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)


def install() -> None:
    """Install the handlers and the fork hook. Call it once, before anything else, in the main thread."""
    for number in STOP_SIGNALS:
        signal.signal(number, _remember)
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the parent may have started this process shielded
    os.register_at_fork(after_in_child=deafen)


def received() -> str | None:
    """Return the name of the first signal that asked this process to stop (`SIGTERM`), or None."""
    return _received[0] if _received else None


def report_at_once(report: Callable[[str], object]) -> None:
    """Call `report` with the first signal's name as soon as it comes, in a thread, even if the main thread is busy.

    Call it once, in the main thread, after `install`.
    """
    readable, writable = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writable, False)  # set_wakeup_fd demands it
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    if name := received():  # a signal that came before this call
        report(name)
    thread = threading.Thread(target=_report_first, args=[readable, report], name="signal-reporter", daemon=True)
    with shielded():  # the main thread alone receives the signals
        thread.start()


def _report_first(readable: int, report: Callable[[str], object]) -> None:
    while (number := os.read(readable, 1)[0]) not in STOP_SIGNALS:
        pass
    report(signal.Signals(number).name)


def deafen() -> None:
    """Make this process, and all that it starts, ignore the stop signals: for a child, or a run that is ending."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Block the signals while processes are started in here, which inherit the mask. Signals for this process wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_children() -> None:
    """Kill the children of multiprocessing that still run: its own clean-up sends SIGTERM and waits for ever.

    Call it only when the process is about to end. torch's SIGCHLD handler raises an error when a DataLoader worker is
    killed, so it is removed first: by the C library, for Python does that in the main thread only, and the thread that
    watches the other processes of a team ends this one too.
    """
    if "multiprocessing.process" in sys.modules:
        ctypes.CDLL(None).signal(signal.SIGCHLD, None)  # SIG_DFL
        for child in multiprocessing.active_children():
            child.kill()
