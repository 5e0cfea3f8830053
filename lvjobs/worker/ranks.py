"""The ranks of a process group, as the first one sees them: it starts the others, watches them and ends with them.

On several nodes the agent of each other node (`lvjobs.worker.program.agent`) does this for its node, as the first
process orders. What a program of one node is to `program.process`, the followers of one node are to `Followers`. They
are not started as a program: they keep the job's environment and the worker's output, ignore signals, and end by a
pipe; and the first process has children of its own, which a program's end would kill.

The failure of one rank ends the attempt, soon: gloo notices a missing peer, NCCL may not, so a thread polls. An
exception in a follower is the run's error. If a follower ends in any other way, the code is not to blame: the attempt
ends like a killed worker, without a final journal line, with the exit code of the process that ended.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from lvjobs import files
from lvjobs.errors import LvjobsError
from lvjobs.records.failure import RecordedError, read_error
from lvjobs.worker import determinism, signals
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.environment import JobEnvironment
from lvjobs.worker.follower import PEER_LOST, Assignment, report_of
from lvjobs.worker.process_group import Address, PeerLost, Place, join
from lvjobs.worker.program.directory import free_port, head_of, new_work
from lvjobs.worker.program.end import ProcessEnd
from lvjobs.worker.program.launch import Order
from lvjobs.worker.program.messages import Orders
from lvjobs.worker.program.nodes import OtherNodes
from lvjobs.worker.program.process import FAILURE_SECONDS, note
from lvjobs.worker.saved_files import unpack
from lvjobs.worker.task import function_of

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""Seconds for the first process to notice by itself that a follower ended, and for that follower's exit to show."""


@dataclass(frozen=True)
class LostRank:
    """The end of a follower. `error` is its exception, None if it raised none.

    `status` is its exit code, negative for a signal, and None if it runs and does not answer. `node` is Slurm's name of
    its node, if that is not the worker's.
    """

    rank: int
    status: int | None
    error: RecordedError | None = None
    node: str = ""

    def __str__(self) -> str:
        where = f" on node {self.node}" if self.node else ""
        if self.error:
            return f"process {self.rank} failed: {self.error}"
        if self.status is None:
            return "the processes that train together no longer answer one another"
        return f"process {self.rank}{where} of the process group failed ({self.status})"


def exit_code_of(loss: LostRank) -> int:
    """Return the exit code that a shell would give for the loss."""
    if loss.status is None or loss.status >= 0:
        return loss.status or 1
    return 128 - loss.status


class Followers:
    """The followers of one node."""

    def __init__(self, orders: Sequence[Order]) -> None:
        """Start them. Raises OSError if one cannot be started; those before it were ended."""
        self._started: list[tuple[Order, subprocess.Popen[bytes]]] = []
        self._failed: float | None = None
        try:
            for order in orders:
                with signals.shielded():
                    self._started.append((order, subprocess.Popen(order.command, stdin=subprocess.PIPE)))
        except OSError:
            self.end()
            raise

    @property
    def ends(self) -> list[ProcessEnd]:
        """Return the ends of those that have ended by themselves: all others wait for `end`."""
        polled = [(order, process.poll()) for order, process in self._started]
        return [ProcessEnd(order.rank, code) for order, code in polled if code is not None]

    @property
    def is_over(self) -> bool:
        """Return whether one ended some seconds ago: another one may show the cause better."""
        if self._failed is None and self.ends:
            self._failed = time.monotonic()
        return self._failed is not None and time.monotonic() - self._failed > FAILURE_SECONDS

    def end(self) -> list[ProcessEnd]:
        """End all, and return how they ended. A second call does no harm."""
        ended = self.ends
        for _, process in self._started:
            if process.stdin is not None:
                process.stdin.close()
        until = time.monotonic() + _POLL_SECONDS
        while time.monotonic() < until and any(process.poll() is None for _, process in self._started):
            time.sleep(0.01)
        for _, process in self._started:
            process.kill()
            process.wait()
        own = {end.rank for end in ended}
        killed = [order.rank for order, _ in self._started if order.rank not in own]
        return [*ended, *(ProcessEnd(rank, -signal.SIGKILL, is_ours=True) for rank in killed)]


class LaunchedRanks:
    """The followers of one attempt, on all nodes."""

    def __init__(self, attempt: Attempt, job: JobEnvironment) -> None:
        """Start the followers; each waits for the others in `lvjobs.worker.process_group.join`.

        Raises:
            LvjobsError, OSError: they cannot be started.
        """
        self._closing = threading.Event()
        self._others: OtherNodes | None = None
        if job.nodes == 1:
            self._directory = Path(tempfile.mkdtemp(prefix="lvjobs-"))
            self.meeting: Path | Address = self._directory / "meeting"
        else:
            self._directory = new_work(attempt.layout, attempt.generation)
            number = zlib.crc32(f"{job.token} {job.job_id} {attempt.layout.root.name}".encode())
            self.meeting = Address(head_of(job, os.environ), free_port(number))
        nodes = [self._orders_of(node, attempt, job) for node in range(job.nodes)]
        if job.nodes > 1:
            self._others = OtherNodes(self._directory, Orders(job.execution, attempt.generation, nodes))
        try:
            self._here = Followers(nodes[0])
        except OSError:
            self._end_others()
            raise

    def _orders_of(self, node: int, attempt: Attempt, job: JobEnvironment) -> list[Order]:
        """Return what a node starts: a follower for each of its places, but for that of the first process."""
        found = attempt.found
        saved = unpack(attempt.layout, attempt.generation, found) if found else ""
        head, port = ("", 0) if isinstance(self.meeting, Path) else self.meeting
        orders = []
        for local in range(0 if node else 1, job.processes):
            place = Place(node * job.processes + local, job.team, local, job.processes)
            assignment = Assignment(
                root=str(attempt.layout.root),
                **asdict(place),
                directory=str(self._directory),
                head=head,
                port=port,
                checkpoint=str(found.path) if found else "",
                saved=str(saved),
                step=attempt.step,
            )
            command = [sys.executable, "-m", "lvjobs.worker.follower", json.dumps(asdict(assignment))]
            orders.append(Order(place.rank, command, {}))
        return orders

    def watch(self, give_up: Callable[[LostRank], object]) -> None:
        """Wait, in a thread, and call `give_up` some seconds after a follower ended; return as soon as all `close`."""
        while not self._closing.wait(_POLL_SECONDS):
            if self._here.ends or (self._others is not None and self._others.has_failed):
                if not self._closing.wait(_GRACE_SECONDS):
                    give_up(self.loss())
                return

    def loss(self) -> LostRank:
        """Return the loss that ended the group: a follower's error, else an end that no other end caused.

        This waits some seconds for such an end. If none shows, the processes no longer answer (`status` is None).
        """
        until = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < until:
            ended = [*self._here.ends, *(self._others.ends if self._others is not None else ())]
            for end in ended:
                if error := self._error_of(end):
                    return LostRank(end.rank, end.code, error, end.node)
            for end in ended:
                if end.code != PEER_LOST and not end.is_ours:
                    return LostRank(end.rank, end.code, node=end.node)
            time.sleep(_POLL_SECONDS)
        return LostRank(0, None)

    def _error_of(self, end: ProcessEnd) -> RecordedError | None:
        """Return the error that a follower reported. That of another node names it, as nothing else would."""
        report = report_of(self._directory, end.rank)
        with contextlib.suppress(OSError, ValueError):
            if report.name in files.names_in(report.parent):  # see lvjobs.worker.program.messages
                error = read_error(json.loads(report.read_text(encoding="utf-8")))
                where = f" (process {end.rank} on node {end.node})" if end.node else ""
                return replace(error, message=error.message + where, node=end.node)
        return None

    def close(self) -> None:
        """End all followers. A second call does no harm."""
        self._closing.set()
        self._here.end()
        self._end_others()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end_others(self) -> None:
        if self._others is not None and self._directory.exists():
            try:
                self._others.end()
            except LvjobsError as error:  # the attempt's own end is what counts, and the agents end by themselves
                note(str(error))


def train_together(attempt: Attempt, job: JobEnvironment, give_up: Callable[[LaunchedRanks, LostRank], object]) -> None:
    """Train as the first of several processes, started and ended here. If one is lost, `give_up` ends the attempt."""
    ranks = LaunchedRanks(attempt, job)
    try:
        threading.Thread(target=ranks.watch, args=[partial(give_up, ranks)], daemon=True).start()
        attempt.team = join(Place(0, job.team, 0, job.processes), ranks.meeting)
        determinism.seed_generators(attempt.config.seed)
        function_of(attempt.config)(attempt)
    except PeerLost:
        give_up(ranks, ranks.loss())
    finally:
        ranks.close()
