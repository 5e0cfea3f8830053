"""A program as a run: started in a private copy of its directory, watched, stopped in time, and judged by its end.

The worker stays the one that claims, journals, publishes and requeues; the program knows nothing of lvjobs. Its exit
code is not trusted alone: 0 means done only once the last step was reported (`end`).

    <run directory>/000002.work/          generation 2's working directory: links to the submitted files, and `out/`
    <run directory>/000002-00000500/      a checkpoint (`harvest`)
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lvjobs.errors import LvjobsError
from lvjobs.records.failure import RecordedError
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.placeholders import fill
from lvjobs.study.run import read_params
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.environment import read_environment
from lvjobs.worker.generation import check_fence
from lvjobs.worker.program.activate import activated, packages_of
from lvjobs.worker.program.container import image_of
from lvjobs.worker.program.directory import PRIVATE, make_work, values_of
from lvjobs.worker.program.end import Outcome, ProgramFailed, cause_of, judge
from lvjobs.worker.program.harvest import Harvest, outputs
from lvjobs.worker.program.launch import orders_of
from lvjobs.worker.program.messages import Orders
from lvjobs.worker.program.nodes import SpreadProgram
from lvjobs.worker.program.process import Program, Start, note
from lvjobs.worker.program.progress import GrowingFile, LineParser, Report
from lvjobs.worker.program.stop import Stop
from lvjobs.worker.program.surroundings import Surroundings, environment_around, starts_of, surroundings_of
from lvjobs.worker.saved_files import finish_program
from lvjobs.worker.software import record_software

_POLL_SECONDS = 0.1
_SCAN_SECONDS, _SOON_SECONDS = 1.0, 0.2
"""Seconds between two searches for new checkpoints, in addition to those when one is due: and while one is written."""

_ALIVE_SECONDS = 60.0
"""Seconds without a report after which other output is journaled as a sign of life."""

_FEW_STEPS = 10
"""Steps by which the label of a checkpoint may be wrong."""


def run(attempt: Attempt) -> None:
    """Execute the program until it ends or has to stop; set `attempt.done` if it is done.

    Raises:
        ProgramFailed: it failed, or ended before its last step.
        ProgramLost: it was killed.
        LvjobsError: it cannot be started, or its files cannot be read or written.
        Superseded: a newer generation has claimed the run.
    """
    config = read_params(CommandConfig, attempt.config.params)
    work = make_work(attempt, config)
    values = values_of(attempt, config, work, read_environment(os.environ))
    harvest = Harvest(attempt, config, work, values)
    if attempt.found is None and config.from_checkpoint:
        harvest.adopt(attempt.layout.study.root / config.from_checkpoint)
    laid_out = harvest.lay_out()
    execution = Execution(attempt, config, work, values, harvest)
    if not execution.prepare(laid_out):
        return
    attempt.begin()
    outcome = execution.run()
    if harvest.problem:
        note(f"a checkpoint was not taken: {harvest.problem}")
    check_fence(attempt.layout, attempt.generation)  # a newer generation deletes this one's working directory
    end = judge(outcome, config)
    if end.is_done:
        attempt.advance(end.step, {})
        left = outputs(work, harvest.pattern, (PRIVATE, "__pycache__"))
        attempt.done = finish_program(attempt.layout, attempt.generation, end.step, work, left, attempt.metrics)
        shutil.rmtree(work, ignore_errors=True)


@dataclass
class Execution:
    """One execution of the program, from its start to its end."""

    attempt: Attempt
    config: CommandConfig
    work: Path
    values: dict[str, Any]
    harvest: Harvest
    orders: Orders = field(default_factory=lambda: Orders("", 0, []))
    starts: Sequence[Start] = ()
    _reports: int = 0
    _gap: int = 1
    _written: float = field(default_factory=time.monotonic)
    _sources: list[GrowingFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare what the program's progress is read by."""
        self._stop = Stop(self.attempt, self.config.stop)
        self._parser = LineParser(self.config, self.values)
        self._progress = self.work / PRIVATE / "progress.jsonl"
        self._sources.append(GrowingFile(self._progress.parent, self._progress.name))
        if self.config.progress_file:
            self._sources.append(GrowingFile(self.work, fill(self.config.progress_file, self.values)))

    def prepare(self, laid_out: Path | None) -> bool:
        """Make the orders for each node, to resume from the checkpoint that was `laid_out`; journal what runs.

        Return False if the attempt has to stop.

        Raises:
            LvjobsError: the environment cannot be activated, or the container cannot be started.
        """
        attempt, root, job = self.attempt, self.attempt.layout.study.root, read_environment(os.environ)
        words, values = self.config.command, self.values
        if laid_out is not None:
            words = self.config.resume_command or [*words, *self.config.resume]
            values = {**values, "checkpoint": laid_out.as_posix(), "step": attempt.step}
        nodes = orders_of(self.config, words, values, self._variables(laid_out), on_slurm=job.on_slurm)
        around = surroundings_of(self.config, root, self.work)
        if job.activate:
            before = environment_around(around, os.environ, nodes[0][0].variables)
            changed = activated(attempt, job.activate, before, self.work / PRIVATE)
            if changed is None:
                return False
            around = replace(around, activated=changed)
        self.starts = starts_of(nodes[0], os.environ, around)
        self.orders = Orders(job.execution, attempt.generation, nodes, around.activated)
        for line in self._record(nodes[0][0].command, around):
            note(line)
        return not attempt.must_stop()

    def _record(self, command: Sequence[str], around: Surroundings) -> list[str]:
        """Journal what the attempt runs with, and return in words what is new about it."""
        attempt = self.attempt
        packages: dict[str, str] = {}
        image: dict[str, Any] = {}
        if around.container is None:
            packages, problem = packages_of(command, self.starts[0].environment, self.work)
        else:
            image, problem = image_of(around.container, around.root)
        return record_software(attempt.layout, attempt.generation, attempt.journal, packages, problem, image)

    def run(self) -> Outcome:
        """Execute the program, and return how it ended."""
        program = self._start()
        self.harvest.read_reports = lambda: self._read(program)
        try:
            self._watch(program)
        finally:
            has_saved = program.has_ended and bool(self.config.stop) and self.attempt.must_stop()
            shown = cause_of(program.end())
        self._read(program)
        self.harvest.scan(finished=True, killed=shown.code != 0 and not has_saved)
        return Outcome(
            code=shown.code,
            step=max(self.attempt.logged, self.attempt.checkpointed),
            steps=self.attempt.config.steps,
            gap=self._gap,
            counts=self._parser.counts_steps or bool(self.config.progress_file),
            reports=self._reports,
            was_stopped=self.attempt.must_stop(),
            tail=shown.tail,
            rank=shown.rank,
            node=shown.node,
            is_lost=shown.is_lost,
        )

    def _start(self) -> Program | SpreadProgram:
        try:
            if len(self.orders.nodes) == 1:
                return Program(self.starts, self.work)
            spread = SpreadProgram(self.work, self.orders, self.starts)
        except OSError as error:
            raise LvjobsError(
                f"{self.starts[0].command[0]} cannot be started ({error.strerror}): it is not on PATH in the job, or "
                "not executable; load or activate what it needs under [resources], or name it by its path"
            ) from None
        self.harvest.files_being_written = spread.files_being_written
        return spread

    def _variables(self, laid_out: Path | None) -> dict[str, str]:
        """Return the variables that every process gets in addition to the job's."""
        attempt, name = self.attempt, self.attempt.layout.root.name
        return {
            "LVJOBS_RUN": name,
            "LVJOBS_STEP": str(attempt.step),
            "LVJOBS_CHECKPOINT": str(self.work / laid_out) if laid_out else "",
            "LVJOBS_PROGRESS": str(self._progress),
            "LVJOBS_GENERATION": str(attempt.generation),
            "WANDB_RUN_ID": f"{name}-{attempt.config.fingerprint[:8]}",
            "WANDB_RESUME": "allow",
            "PYTHONUNBUFFERED": "1",
        }

    def _watch(self, program: Program | SpreadProgram) -> None:
        """Return once the program has ended, or must not run on."""
        scanned, due = time.monotonic(), self.attempt.logged // self.attempt.config.checkpoint_every
        while not program.is_over or self._stop.saves_on(program):
            self._read(program)
            stopping, now = self.attempt.must_stop(), time.monotonic()
            is_due = self.attempt.logged // self.attempt.config.checkpoint_every > due
            found = False
            pause = _SOON_SECONDS if self.harvest.is_waiting else _SCAN_SECONDS
            if stopping or is_due or now - scanned > pause:
                scanned, due = now, self.attempt.logged // self.attempt.config.checkpoint_every
                found = self.harvest.scan()
                program.reap()
            if stopping and not self._stop.may_continue(program, found=found):
                return
            time.sleep(_POLL_SECONDS)

    def _read(self, program: Program | SpreadProgram) -> None:
        """Journal what the program reported since the last time."""
        lines = program.lines()
        if lines and time.monotonic() - self._written > _ALIVE_SECONDS:
            self._written = time.monotonic()
            self.attempt.note_alive()
        for when, line in lines:
            for report in self._parser.reports(line):
                self._take(report, when)
        for source in self._sources:
            for record in source.records():
                for report in self._parser.record(record):
                    self._take(report, time.time())

    def _take(self, report: Report, when: float) -> None:
        attempt, self._written = self.attempt, time.monotonic()
        if report.is_validation:
            step = attempt.logged if report.step is None else report.step
            attempt.validated(min(step, attempt.config.steps), **report.metrics)
        elif report.step is None:
            if self._reports:
                attempt.report(attempt.logged, report.metrics)
        elif self._reports and report.step <= attempt.logged:  # of another source, or of another bar
            if report.metrics:
                attempt.report(report.step, report.metrics)
        elif report.step > 0:
            if not self._reports and attempt.found is not None and not attempt.step:  # its checkpoint's step is unknown
                attempt.logged = report.step - 1
            self._check(report.step)
            if self._reports:
                self._gap = report.step - attempt.logged
            attempt.advance(report.step, report.metrics)
            self._reports += 1
            self.harvest.note_step(when, report.step)

    def _check(self, step: int) -> None:
        """Refuse a program that ignores its checkpoint, or its number of steps.

        Raises:
            ProgramFailed: it would train without an end.
        """
        given, every, steps = self.attempt.step, self.attempt.config.checkpoint_every, self.attempt.config.steps
        if not self._reports and step <= given // 2 and given - step >= min(every, _FEW_STEPS):
            raise ProgramFailed(
                RecordedError(
                    "ResumeIgnored",
                    f"it was given the checkpoint of step {given}, but began at step {step}; correct resume, and "
                    "submit it again",
                )
            )
        if step - steps > max(self._gap, every):
            raise ProgramFailed(
                RecordedError(
                    "TooManySteps",
                    f"it is at step {step} of {steps}, and does not end; submit it again with {{steps}} in its command",
                )
            )
