"""The processes of a lab, and how they are stopped.

Nothing is ever signalled by name. A daemon is the process in its pid file, and only while that process's command line
or environment mentions this lab's directory: its number in an old file may belong to another process by now. Processes
of jobs are known by the SLURM_CONF that they inherited, and the slurmstepd above them by its working directory.
"""

import contextlib
import os
import signal
from collections.abc import Iterable

import psutil

from lvjobs.lab.layout import Layout
from lvjobs.lab.tools import wait_until


def is_alive(process: psutil.Process) -> bool:
    """Return whether `process` still runs; a zombie does not, however late its parent collects it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(process: psutil.Process) -> dict[str, str]:
    """Return the variables of `process`; none for another user's or a process that is gone: not to be touched."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def belongs_to(process: psutil.Process, layout: Layout) -> bool:
    """Return whether `process` was started for this lab."""
    try:
        arguments = process.cmdline()
    except (psutil.Error, OSError):
        return False
    named = any(f"{layout.directory}/" in word for word in arguments)
    return named or _environment(process).get("SLURM_CONF") == str(layout.slurm_conf)


def daemon_process(layout: Layout, daemon: str) -> psutil.Process | None:
    """Return the running process of `daemon`, by its pid file; None if this lab has none."""
    try:
        process = psutil.Process(int(layout.pid_file(daemon).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if is_alive(process) and belongs_to(process, layout) else None


def is_stopped(process: psutil.Process) -> bool:
    """Return whether `process` is stopped by SIGSTOP."""
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal those that still exist; psutil checks that a number was not given to another process."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def stop(processes: Iterable[psutil.Process], *, first: signal.Signals = signal.SIGTERM, patience: float = 8.0) -> None:
    """End processes: send `first`, and SIGKILL to those that are left after `patience` seconds."""
    chosen = [process for process in processes if is_alive(process)]
    send(chosen, first)
    send(chosen, signal.SIGCONT)  # a stopped daemon would not receive SIGTERM
    if not wait_until(lambda: not any(is_alive(process) for process in chosen), patience):
        left = [process for process in chosen if is_alive(process)]
        send(left, signal.SIGKILL)
        wait_until(lambda: not any(is_alive(process) for process in left), patience)


def stop_daemons(layout: Layout, daemons: Iterable[str], *, first: signal.Signals = signal.SIGTERM) -> None:
    """End daemons of this lab and remove their pid files."""
    names = tuple(daemons)
    stop([process for name in names if (process := daemon_process(layout, name))], first=first)
    for name in names:
        layout.pid_file(name).unlink(missing_ok=True)


def _is_step_manager(process: psutil.Process, layout: Layout) -> bool:
    """Return whether `process` is a slurmstepd of this lab, by its working directory: its environment is cleared."""
    try:
        return process.name() == "slurmstepd" and process.cwd() == str(layout.log)
    except (psutil.Error, OSError):
        return False


def _is_of_a_job(process: psutil.Process, layout: Layout) -> bool:
    environment = _environment(process)
    return environment.get("SLURM_CONF") == str(layout.slurm_conf) and "SLURM_JOB_ID" in environment


def job_processes(layout: Layout) -> list[psutil.Process]:
    """Return the slurmstepd processes of this lab and their children, whether or not a slurmd knows them."""
    spared = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in spared and (_is_step_manager(process, layout) or _is_of_a_job(process, layout)):
            found[process.pid] = process
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update({child.pid: child for child in process.children(recursive=True)})
    return [process for pid, process in found.items() if pid not in spared]
