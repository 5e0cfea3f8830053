"""The start and stop of a lab's daemons, in the order in which they need one another."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable

from lvjobs.lab.layout import ACCOUNT, LabHost, Layout
from lvjobs.lab.processes import daemon_process, job_processes, stop, stop_daemons
from lvjobs.lab.render import DATABASE, render_accounts
from lvjobs.lab.tools import LabError, clean_environment, run_tool, succeeds, user_name, wait_until

_PATIENCE = 120.0  # cold starts took 2 s, on a busy machine 11 s; a stall of a minute is no failure
_ALREADY_DONE = ("Nothing new added", "already exist", "didn't affect anything")
_READY_STATES = "idle,mixed,allocated,completing"


def _launch(layout: Layout, name: str, *command: str) -> "subprocess.Popen[bytes]":
    """Start a program with its output in the lab's logs."""
    # the daemon's libraries find MariaDB's socket by this variable, so that no TCP port has to be opened
    environment = clean_environment(layout) | {"MYSQL_UNIX_PORT": str(layout.mysql_socket), "HOME": str(layout.scratch)}
    with (layout.log / f"{name}.out").open("ab") as output:
        return subprocess.Popen(
            command, env=environment, cwd=layout.log, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def _complain(layout: Layout, name: str, what: str) -> LabError:
    """Return an error that quotes the last complaint in the daemon's own logs."""
    complaint = ""
    for path in (layout.log / f"{name}.log", layout.log / f"{name}.out"):
        if not complaint and path.exists():
            lines = path.read_text(errors="replace", encoding="utf-8").splitlines()[-50:]
            complaint = next(
                (line for line in reversed(lines) if "fatal" in line.lower() or "error" in line.lower()), ""
            )
    return LabError(f"{name} {what}{f' ({complaint})' if complaint else ''}: see the logs in {layout.log}")


def _finish(layout: Layout, name: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait for a program that puts itself in the background, or for a short one."""
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise _complain(layout, name, f"did not start in {_PATIENCE:g} s") from None
    if code:
        raise _complain(layout, name, "did not start")


def _wait_for(layout: Layout, name: str, condition: Callable[[], bool], otherwise: str = "did not answer") -> None:
    if not wait_until(condition, _PATIENCE):
        raise _complain(layout, name, otherwise)


def start_munged(layout: Layout) -> None:
    """Start the daemon that signs every message within the lab."""
    if daemon_process(layout, "munged"):
        return
    if not layout.munge_key.exists():
        with os.fdopen(os.open(layout.munge_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(os.urandom(128))
    for name in ("munge.sock", "munge.sock.lock"):
        (layout.run / name).unlink(missing_ok=True)
    process = _launch(
        layout,
        "munged",
        "munged",
        "--force",  # munged objects that other users cannot reach its socket, which is intended here
        f"--key-file={layout.munge_key}",
        f"--socket={layout.munge_socket}",
        f"--pid-file={layout.pid_file('munged')}",
        f"--log-file={layout.log}/munged.log",
        f"--seed-file={layout.run}/munge.seed",
    )
    _finish(layout, "munged", process)
    _wait_for(layout, "munged", layout.munge_socket.exists, "opened no socket")


def start_database(layout: Layout) -> None:
    """Start MariaDB, on a socket inside the lab only."""
    if daemon_process(layout, "mariadbd"):
        return
    # MariaDB clears the temporary directory when it starts, and in a shared one would delete another server's tables
    common = ("--no-defaults", f"--user={user_name()}", f"--tmpdir={layout.scratch}")
    if not layout.database.exists():
        unfinished = layout.database.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        install = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        command = ("mariadb-install-db", *common, f"--datadir={unfinished}", *install)
        _finish(layout, command[0], _launch(layout, command[0], *command))
        unfinished.rename(layout.database)
    options = (
        f"--datadir={layout.database}",
        f"--socket={layout.mysql_socket}",
        f"--pid-file={layout.pid_file('mariadbd')}",
        f"--log-error={layout.log}/mariadbd.log",
        "--skip-networking",
        "--skip-name-resolve",
        "--skip-log-bin",
        # small and fast: a lab's accounting data may be lost with the machine
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
    )
    _launch(layout, "mariadbd", "setsid", "--fork", "mariadbd", *common, *options).wait()
    client = ("mariadb", "--no-defaults", f"--socket={layout.mysql_socket}", "--user=root")
    create = ("-e", f"create database if not exists {DATABASE}")
    _wait_for(layout, "mariadbd", lambda: succeeds(layout, *client, *create))


def start_accounting(layout: Layout, site: LabHost) -> None:
    """Start MariaDB and slurmdbd, and add the account that lets this user submit."""
    start_database(layout)
    if not daemon_process(layout, "slurmdbd"):
        layout.pid_file("slurmdbd").unlink(missing_ok=True)
        _finish(layout, "slurmdbd", _launch(layout, "slurmdbd", "slurmdbd"))
    _wait_for(layout, "slurmdbd", lambda: succeeds(layout, "sacctmgr", "-n", "show", "cluster"))
    account = run_tool(layout, "sacctmgr", "-nP", "show", "user", user_name(), "format=defaultaccount").strip()
    if account != ACCOUNT:
        for call in render_accounts(site.config, user_name()):
            _account(layout, call)


def _account(layout: Layout, call: tuple[str, ...]) -> None:
    try:
        run_tool(layout, "sacctmgr", "-i", *call)
    except LabError as error:
        # sacctmgr fails if there is nothing to do, as after an `up` that was interrupted
        if not any(words in str(error) for words in _ALREADY_DONE):
            raise


def start_controller(layout: Layout) -> None:
    """Start slurmctld, and wait until it answers."""
    if not daemon_process(layout, "slurmctld"):
        layout.pid_file("slurmctld").unlink(missing_ok=True)
        _finish(layout, "slurmctld", _launch(layout, "slurmctld", "slurmctld", "-f", str(layout.slurm_conf)))
    _wait_for(layout, "slurmctld", lambda: controller_answers(layout))


def controller_answers(layout: Layout) -> bool:
    """Return whether slurmctld reports that it is up."""
    try:
        return "is UP" in run_tool(layout, "scontrol", "ping", timeout=5)
    except LabError:
        return False


def start_nodes(layout: Layout, nodes: Iterable[str]) -> None:
    """Start one slurmd per node, all at once, and wait until the controller counts them as usable."""
    names = tuple(nodes)
    dead = [node for node in names if not daemon_process(layout, f"slurmd.{node}")]
    _requeue_jobs_without_processes(layout, dead)
    launched = []
    for node in dead:
        (layout.spool / node).mkdir(exist_ok=True)
        layout.pid_file(f"slurmd.{node}").unlink(missing_ok=True)
        command = ("slurmd", "-N", node, "-f", str(layout.slurm_conf))
        launched.append((f"slurmd.{node}", _launch(layout, f"slurmd.{node}", *command)))
    for name, process in launched:
        _finish(layout, name, process)
    if wait_until(lambda: ready_nodes(layout) >= set(names), 5):
        return
    for node in set(names) - ready_nodes(layout):  # resumes a node that was failed on purpose, or drained itself
        succeeds(layout, "scontrol", "update", f"nodename={node}", "state=resume")
    if not wait_until(lambda: ready_nodes(layout) >= set(names), _PATIENCE):
        missing = sorted(set(names) - ready_nodes(layout))
        raise _complain(layout, f"slurmd.{missing[0]}" if missing else "slurmctld", "did not come up")


def _requeue_jobs_without_processes(layout: Layout, nodes: list[str]) -> None:
    """Report to the controller which jobs ended while it was down.

    After a `down` or a reboot its saved queue has running jobs without processes, which it may not notice for twenty
    minutes. If their nodes are set down, it requeues them at once.
    """
    if not nodes or job_processes(layout):
        return
    listed = run_tool(layout, "squeue", "-h", "-a", "-t", "running,completing", "-w", ",".join(nodes), "-o", "%N")
    if listed.strip():
        run_tool(layout, "scontrol", "update", f"nodename={','.join(nodes)}", "state=down", "reason=lab was down")


def ready_nodes(layout: Layout) -> set[str]:
    """Return the nodes that can run a job, now or when it has room; empty while the controller does not answer."""
    with contextlib.suppress(LabError):
        return set(run_tool(layout, "sinfo", "-h", "-N", "-t", _READY_STATES, "-o", "%N").split())
    return set()


def stop_everything(layout: Layout, nodes: Iterable[str], *, gently: bool) -> None:
    """Stop the lab's daemons and its jobs' processes; `gently` lets the controller and MariaDB save their state."""
    slurmds = [f"slurmd.{node}" for node in nodes]
    first = signal.SIGTERM if gently else signal.SIGKILL
    stop_daemons(layout, slurmds, first=signal.SIGKILL)  # a slurmd has no state that its jobs need
    stop_daemons(layout, ["slurmctld"], first=first)
    stop(job_processes(layout), first=signal.SIGKILL)
    stop_daemons(layout, ["slurmdbd"], first=first)
    stop_daemons(layout, ["mariadbd"], first=first)
    stop_daemons(layout, ["munged"], first=signal.SIGKILL)  # munged has no state, and takes 2 s to end after SIGTERM
