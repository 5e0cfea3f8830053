"""A program on several nodes, as the worker on the first one sees it: its own processes, and those of the agents."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lvjobs.errors import LvjobsError
from lvjobs.worker import signals
from lvjobs.worker.program.end import ProcessEnd
from lvjobs.worker.program.messages import AgentReport, Orders, directory_of, read_report, write_orders
from lvjobs.worker.program.process import Program, Start, files_being_written, note

_BEAT_SECONDS = 20.0
"""Seconds between two signs of life for the agents."""

_ANSWER_SECONDS = 15.0
"""Seconds in which an agent answers. One that does not is lost, or does not see the run's files."""

_POLL_SECONDS = 0.1
_READ_SECONDS = 0.5
"""Seconds between two reads of the agents' reports."""


class OtherNodes:
    """The agents of the other nodes: orders to them, and their reports."""

    def __init__(self, work: Path, orders: Orders) -> None:
        """Write the first orders.

        Raises:
            LvjobsError: they cannot be written.
        """
        self._work, self._orders = work, orders
        self._nodes = range(1, len(orders.nodes))
        self._reports = {node: AgentReport() for node in self._nodes}
        self._read_at = 0.0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        directory_of(work).mkdir(parents=True, exist_ok=True)
        self._order()
        with signals.shielded():
            threading.Thread(target=self._beat, name="beat", daemon=True).start()

    @property
    def has_failed(self) -> bool:
        """Return whether an agent reported a failure."""
        self._refresh()
        return any(report.has_failed for report in self._reports.values())

    @property
    def are_over(self) -> bool:
        """Return whether all agents reported that all their processes have ended."""
        self._refresh()
        return all(report.is_over for report in self._reports.values())

    @property
    def ends(self) -> list[ProcessEnd]:
        """Return the ends that the agents reported."""
        self._refresh()
        return [end for report in self._reports.values() for end in report.ends]

    def signal(self, name: str) -> None:
        """Have all agents send a signal to the program."""
        self._order(signal=name)

    def open_files(self) -> set[Path] | None:
        """Return the files that a process of another node has open for writing; None if an agent does not answer."""
        if self.are_over:
            return set()
        question = self._orders.question + 1
        self._order(question=question)
        if self._missing(lambda report: report.is_over or report.answered >= question):
            return None
        reports = [report for report in self._reports.values() if not report.is_over]
        return {Path(path) for report in reports for path in report.open_files}

    def end(self) -> list[ProcessEnd]:
        """Have all agents end the program; return how its processes ended, and the loss of each silent node.

        Raises:
            LvjobsError: an agent could not start the program.
        """
        self._closing.set()
        if not self._order(is_over=True):
            return []
        lost = self._missing(lambda report: report.is_over)
        if problem := next((report.problem for report in self._reports.values() if report.problem), ""):
            raise LvjobsError(
                f"{problem}: it is not on PATH there, or not executable; load what it needs with modules under "
                "[resources], or name it by its path"
            )
        ranks = [self._orders.nodes[node][0].rank for node in lost]
        return [*self.ends, *(ProcessEnd(rank, -signal.SIGKILL, is_lost=True) for rank in ranks)]

    def _missing(self, has_come: Callable[[AgentReport], bool]) -> list[int]:
        """Wait for a report of each agent; return the nodes whose agents do not answer."""
        until = time.monotonic() + _ANSWER_SECONDS
        while missing := [node for node in self._nodes if not has_come(self._reports[node])]:
            if time.monotonic() > until:
                note(f"no answer from node {', '.join(map(str, missing))} of the job (the first is 0)")
                break
            time.sleep(_POLL_SECONDS)
            self._read_at = 0.0
            self._refresh()
        return missing

    def _refresh(self) -> None:
        """Read the reports, but not too often. A file system that does not answer is like an agent that does not."""
        now = time.monotonic()
        if now - self._read_at < _READ_SECONDS:
            return
        self._read_at = now
        try:
            self._reports |= {node: report for node in self._nodes if (report := read_report(self._work, node))}
        except OSError as error:
            note(f"the reports of the other nodes cannot be read ({error.strerror})")

    def _order(self, **changes: Any) -> bool:
        """Write the orders; return False if a newer generation has deleted their directory, which its agents notice."""
        with self._lock:
            self._orders = replace(self._orders, **changes)
            try:
                write_orders(self._work, self._orders)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise LvjobsError(
                    f"{self._work} cannot be written ({error.strerror}), so the other nodes get no orders. Free space "
                    "or quota there"
                ) from None
        return True

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_SECONDS):
            with suppress(LvjobsError):  # the agents wait for minutes; a later order reports the error
                self._order(beat=self._orders.beat + 1)


class SpreadProgram:
    """A program on several nodes. It has the methods of `Program`."""

    def __init__(self, work: Path, orders: Orders, starts: Sequence[Start]) -> None:
        """Start it on this node, as `starts` says, and order the agents to start it on theirs.

        Raises:
            OSError: it cannot be started here.
            LvjobsError: the orders cannot be written.
        """
        self._others = OtherNodes(work, orders)
        try:
            self._here = Program(starts, work)
        except OSError:
            self._others.end()
            raise

    @property
    def is_over(self) -> bool:
        """Return whether all processes have ended, or one failed some seconds ago."""
        if self._others.has_failed:
            return True
        return self._here.is_over and (any(end.code for end in self._here.ends) or self._others.are_over)

    @property
    def has_ended(self) -> bool:
        """Return whether all processes have ended."""
        return self._here.has_ended and self._others.are_over

    @property
    def has_left_processes(self) -> bool:
        """Return whether a process of the program runs on this node; an agent waits for those of its own."""
        return self._here.has_left_processes

    def lines(self) -> list[tuple[float, str]]:
        """Return the lines that rank 0 printed since the last call, each after the time (epoch) when it was read."""
        return self._here.lines()

    def signal(self, name: str) -> None:
        """Send a signal (`TERM`) to the process group of each process."""
        self._here.signal(name)
        self._others.signal(name)

    def reap(self) -> None:
        """Take note of the processes that ended after the program left them behind, on this node."""
        self._here.reap()

    def files_being_written(self, path: Path) -> set[Path]:
        """Return the files at or below `path` that a process has open for writing.

        If an agent does not answer, that is all of them: nobody knows.
        """
        if here := files_being_written(path):
            return here
        there = self._others.open_files()
        return {path} if there is None else {each for each in there if each.is_relative_to(path)}

    def end(self) -> list[ProcessEnd]:
        """Kill all processes, wait for them, and return their ends. Raises LvjobsError: see `OtherNodes.end`."""
        here: Sequence[ProcessEnd] = self._here.end()
        return [*here, *self._others.end()]
