"""Signals: a handler that sets a flag, and nothing else. The step ends; then the run leaves.

A step may last longer than the grace period, and so may loading a model: `witness` tells of the signal at once, from a
thread of its own, so that the kill that follows does not look like any other.

SIGTERM (default preemption, scancel), SIGUSR1 and SIGUSR2 (the batch script's `--signal`) ask the run to leave. SIGCONT
often comes alone before them and says nothing.

Slurm signals every process of a step, so what the worker started gets them too, and must not die of them:

* forked children (a DataLoader's workers under `fork`) are shielded by a fork hook. They block the signals rather than
  only ignore them, because torch installs a SIGTERM handler of its own in DataLoader workers;
* anything that is executed (subprocess, `spawn`) inherits the mask of the thread that starts it: start it inside
  `shielded()`. A shell may clear its mask (dash does): give it `preexec_fn=deafen`, for what is ignored stays ignored.

A shielded child is ended by SIGKILL (`Process.kill`), not by SIGTERM: so no `multiprocessing.Pool.terminate()`.
"""

import contextlib
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
    """Set the flags' handlers and the fork hook. Call it once, first of all, in the main thread."""
    for number in STOP_SIGNALS:
        signal.signal(number, _remember)
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # whoever starts a worker may have shielded it until now
    os.register_at_fork(after_in_child=deafen)


def received() -> str | None:
    """The name of the first signal that asked this process to leave (`SIGTERM`), or None."""
    return _received[0] if _received else None


def witness(tell: Callable[[str], object]) -> None:
    """Call `tell` with the first signal's name as soon as it comes, in a thread, whatever the main one is busy with.

    Call it once, in the main thread, after `install`.
    """
    heard, told = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(told, False)  # as set_wakeup_fd demands
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    if name := received():  # before there was a witness
        tell(name)
    thread = threading.Thread(target=_witness, args=[heard, tell], name="witness", daemon=True)
    with shielded():  # signals stay the main thread's
        thread.start()


def _witness(heard: int, tell: Callable[[str], object]) -> None:
    while (number := os.read(heard, 1)[0]) not in STOP_SIGNALS:
        pass
    tell(signal.Signals(number).name)


def deafen() -> None:
    """Make this process deaf to the signals, and all that it starts: a child, or a run that leaves or ends already."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Start processes in here: they inherit the blocked signals. A signal for this process waits; it is not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_children() -> None:
    """Kill what multiprocessing started and did not end: its own clean-up at exit sends SIGTERM and waits for ever.

    For leaving and ending only. torch's SIGCHLD handler raises when a DataLoader worker is killed: it goes first.
    """
    if "multiprocessing.process" in sys.modules:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.kill()
