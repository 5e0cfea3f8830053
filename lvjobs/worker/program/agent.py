"""The agent of a node: it starts the node's part of a run, and ends it, as the worker on the first node orders.

Its part are processes of a program, or followers of a training function (`lvjobs.worker.ranks`).

It claims nothing, and writes no journal and no checkpoint. It ends with the worker's generation: when the worker says
so, when a newer generation has claimed the run, or when the worker is silent. Its exit code is 0 whatever the program
did, because srun would end the worker otherwise; the worker reads the report and decides.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.run import RunFile, read_params
from lvjobs.worker import signals
from lvjobs.worker.attempt import runs_a_program
from lvjobs.worker.environment import DONE, JobEnvironment
from lvjobs.worker.generation import is_superseded
from lvjobs.worker.process_group import PATIENCE
from lvjobs.worker.program.directory import end_orphans
from lvjobs.worker.program.end import ProcessEnd
from lvjobs.worker.program.launch import Order
from lvjobs.worker.program.messages import AgentReport, find_orders, read_orders, write_report
from lvjobs.worker.program.process import Program, files_being_written, note
from lvjobs.worker.program.surroundings import starts_of, surroundings_of
from lvjobs.worker.ranks import Followers
from lvjobs.worker.submission import Submission

_POLL_SECONDS = 0.2
_WAIT_SECONDS = 0.5
"""Seconds between two looks for new orders: while the program runs, and before."""

_SILENT_SECONDS = 180.0
"""Seconds without a sign of life of the worker after which the program is ended: nothing could publish its work."""

_LONGEST_STEP = 1.0
"""Seconds that count at most for one turn of the loop: Slurm may have stopped the whole job meanwhile."""

_CHECK_SECONDS = 2.0
"""Seconds between two looks for a newer generation."""


def serve(layout: RunLayout, environment: JobEnvironment) -> int:
    """Serve the worker of this execution of the job until its program has ended; return the exit code.

    Raises:
        LvjobsError, OSError: the run's files cannot be read or written.
    """
    signals.deafen()  # the worker gets the same signals, and decides
    work = _find_work(layout, environment)
    if work is None:
        return DONE
    end_orphans(layout.root, work.name)
    Agent(layout, environment, work).run()
    return DONE


def _find_work(layout: RunLayout, environment: JobEnvironment) -> Path | None:
    """Return the working directory with orders for this execution; None if there will be none."""
    submission = Submission(layout, environment.token)
    while not (layout.done.exists() or submission.is_revoked):
        for work in sorted(layout.root.glob("*.work"), reverse=True):
            orders = find_orders(work)
            if orders is not None and orders.execution == environment.execution:
                return work
        time.sleep(_WAIT_SECONDS)
        submission.refresh()
    return None


class Agent:
    """The agent of one node, for one generation."""

    def __init__(self, layout: RunLayout, environment: JobEnvironment, work: Path) -> None:
        self._layout, self._environment, self._work = layout, environment, work
        self._orders = read_orders(work)
        self._report = AgentReport()
        self._sent = ""
        self._patience = _SILENT_SECONDS
        self._silent = 0.0
        self._mark = self._checked = time.monotonic()

    def run(self) -> None:
        """Start the node's part, and report its end once all its processes have ended."""
        mine = self._orders.nodes[self._environment.node_rank]
        try:
            program = self._start(mine)
        except OSError as error:
            node = f"node {self._environment.node}"
            self._write(is_over=True, problem=f"{node}: {mine[0].command[0]} cannot be started ({error.strerror})")
            return
        try:
            self._watch(program)
        finally:
            ends = program.end()
        self._write(is_over=True, ends=self._named(ends))

    def _start(self, mine: Sequence[Order]) -> Program | Followers:
        config = RunFile.read(self._layout.config).config
        if not runs_a_program(config):
            self._patience = PATIENCE.total_seconds()  # the worker trains, and may be busy in a library for minutes
            return Followers(mine)
        settings = read_params(CommandConfig, config.params)
        around = surroundings_of(settings, self._layout.study.root, self._work, self._orders.activated)
        return Program(starts_of(mine, os.environ, around), self._work)

    def _watch(self, program: Program | Followers) -> None:
        while not (self._is_over(program) or self._must_end()):
            if isinstance(program, Program):  # the first process decides for followers, and writes for them
                self._attend(program)
            time.sleep(_POLL_SECONDS)

    def _is_over(self, program: Program | Followers) -> bool:
        """Return whether the node's part has ended: after a signal to stop, with all that it left behind."""
        saves_on = bool(self._sent) and isinstance(program, Program) and program.has_left_processes
        return program.is_over and not saves_on

    def _attend(self, program: Program) -> None:
        """Do for a program what the worker ordered since the last time."""
        program.lines()  # nobody reads steps here
        program.reap()
        if self._orders.signal != self._sent:
            self._sent = self._orders.signal
            program.signal(self._sent)
        if self._orders.question > self._report.answered:
            found = sorted(str(path) for path in files_being_written(self._work.resolve()))
            self._write(answered=self._orders.question, open_files=found)

    def _must_end(self) -> bool:
        """Read the orders again; return whether the program has to end."""
        now = time.monotonic()
        self._silent += min(now - self._mark, _LONGEST_STEP)
        self._mark = now
        with suppress(OSError):  # the file system does not answer, or the working directory is gone: that is silence
            if now - self._checked > _CHECK_SECONDS:
                self._checked = now
                if is_superseded(self._layout, self._orders.generation):
                    note(f"node {self._environment.node}: a newer generation has claimed the run")
                    return True
            orders = read_orders(self._work)
            if orders != self._orders:
                self._orders, self._silent = orders, 0.0
        if self._silent > self._patience:
            note(f"node {self._environment.node}: the worker is silent, so its part ends here")
        return self._orders.is_over or self._silent > self._patience

    def _named(self, ends: Sequence[ProcessEnd]) -> list[ProcessEnd]:
        return [replace(end, node=self._environment.node) for end in ends]

    def _write(self, **changes: object) -> None:
        self._report = replace(self._report, **changes)  # type: ignore[arg-type]
        with suppress(FileNotFoundError):  # a newer generation deleted the working directory: nobody asks any more
            write_report(self._work, self._environment.node_rank, self._report)
