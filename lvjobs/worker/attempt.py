"""One attempt of one run: the `Run` that a training function is given."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import SupportsFloat

from lvjobs.records.run_files import CheckpointName, Done
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import RunConfig
from lvjobs.worker import determinism, loading, signals
from lvjobs.worker.allowance import AllowanceMeter
from lvjobs.worker.checkpoints import RNG, Checkpoint, write_checkpoint, write_directory
from lvjobs.worker.early_exit import DEADLINE, EXHAUSTED, OUT_OF_GPU_HOURS, REVOKED, RUNG, Deadline
from lvjobs.worker.generation import is_superseded
from lvjobs.worker.interface import Resumed, State
from lvjobs.worker.journal import Chain, JournalWriter, numbers
from lvjobs.worker.parent import find_start
from lvjobs.worker.printed import ProgressLines
from lvjobs.worker.process_group import Alone, ProcessGroup
from lvjobs.worker.pruning import prune
from lvjobs.worker.saved_files import unpack
from lvjobs.worker.stored import open_checkpoint
from lvjobs.worker.submission import Submission

_CHECK_EVERY = 10.0
"""Seconds between two reads of the run directory, for a newer generation, a revocation or a renewed allowance."""


_UNREADABLE_SECONDS = 600.0
"""Seconds for which a run trains on though its directory cannot be read: file systems come back."""


def runs_a_program(config: RunConfig) -> bool:
    """Return whether the run is that of a program, not of a training function."""
    return config.task == COMMAND_TASK


@dataclass
class Attempt:
    """The implementation of `lvjobs.worker.Run`, which documents each method."""

    layout: RunLayout
    config: RunConfig
    generation: int
    submission: Submission
    journal: JournalWriter
    found: Checkpoint | None
    invalid: Collection[CheckpointName] = ()
    deadline: Deadline = field(default_factory=lambda: Deadline(None, None, 0.0))
    team: Alone | ProcessGroup = field(default_factory=Alone)
    job_start: float = field(default_factory=time.time)
    processes: int = 1
    """The processes that a program is started as, on all nodes."""

    def __post_init__(self) -> None:
        """Set the counters to the checkpoint that this attempt begins from."""
        self.logged = self.step  # the last executed step
        self.checkpointed = self.step  # the last step in a checkpoint
        self.done: Done | None = None
        self._ended = self.found is not None and self.found.manifest.final
        self._executed = 0
        self.reason: str | None = None
        self._signal_journaled = False
        self._signal_lock = threading.Lock()
        self._meter = AllowanceMeter(self.layout, self.generation, self.submission, self.job_start)
        self._chain = Chain(self.journal.path, self.found.sha256 if self.found else "")
        self._resumed = False
        self._metrics: dict[str, float] = {}
        self._lines = ProgressLines(self.config.steps)
        self._mark = self._checked = self._readable = time.monotonic()
        self._step_seconds = self._checkpoint_seconds = self._validation_seconds = 0.0

    @property
    def step(self) -> int:
        return self.found.name.step if self.found else 0

    @property
    def is_over(self) -> bool:
        """Return whether the last step, or the one at which the function ended the run, is in a checkpoint.

        A program is over only once it has ended by itself, which its checkpoints do not show.
        """
        return self._ended or (self.checkpointed >= self.config.steps and not self.runs_a_program)

    @property
    def runs_a_program(self) -> bool:
        """Return whether the checkpoints are those of another program (`lvjobs.worker.program.harvest`)."""
        return runs_a_program(self.config)

    @property
    def directory(self) -> Path:
        return self.layout.root

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the metrics of the last step."""
        return self._metrics

    def begin(self) -> None:
        """Begin to count the seconds of steps: a program is about to start."""
        self._resumed = True
        loading.end()
        self._lap()

    def begin_from_newest(self) -> None:
        """Begin from a checkpoint that was published since the attempt was made."""
        self.found, _ = find_start(self.layout, self.config)
        self.logged = self.step

    def resume(self) -> Resumed | None:
        """Load the checkpoint that was found, and restore the RNGs last."""
        self.begin()
        if self.found is None:
            self._lines.begin(0)
            return None
        directory = unpack(self.layout, self.generation, self.found)
        with open_checkpoint(self.found.path) as stored:
            state = stored.trees()
        determinism.restore_rng(state.pop(RNG))
        self._lap()
        self._lines.begin(self.step)
        return Resumed(self.step, state, directory)

    def log(self, step: int, **metrics: SupportsFloat) -> None:
        if self.found and not self._resumed:
            raise ValueError(
                f"step {step} was executed before run.resume() was called, and would start from scratch; call it first"
            )
        if step != self.logged + 1:
            raise ValueError(
                f"run.log({step}): the next step is {self.logged + 1}. Call run.log once for each, from run.step + 1 on"
            )
        if step > self.config.steps:
            raise ValueError(f"run.log({step}): the run has {self.config.steps} steps; return after the last")
        if self._ended:
            raise ValueError(f"run.log({step}): the run was ended at step {self.checkpointed}; return after that")
        values = numbers(metrics)
        self._write_step(step, 1, values)
        self._lines.step(step, values)

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report, for a program, all steps up to `step` as executed; the first report decides where it resumed.

        A program may repeat steps that are in a checkpoint, and it may print only every tenth step.
        """
        executed = step - self.logged
        if not self._executed and executed <= 0:
            executed = 1
        if executed > 0:
            self._write_step(step, executed, metrics)

    def note_alive(self) -> None:
        """Journal that a program printed something: it does not hang, though it reports no step."""
        self.journal.write("alive", step=self.logged)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report, for a program, further metrics of a step that was reported as executed."""
        if step == self.logged:
            self._metrics |= metrics
        self.journal.write("step", step=min(step, self.config.steps), steps=0, **metrics)

    def _write_step(self, step: int, executed: int, metrics: Mapping[str, float]) -> None:
        self._metrics = dict(metrics)
        seconds = self._lap()
        self._step_seconds = seconds / executed
        several = {"steps": executed} if executed > 1 else {}
        shown = min(step, self.config.steps)  # a program may execute more, which is charged
        self.journal.write("step", step=shown, **several, **{"seconds": round(seconds, 6), **self._metrics})
        self.logged = step
        self._executed += executed

    def validated(self, step: int, **metrics: SupportsFloat) -> None:
        from lvjobs.tasks.registry import task_of

        values = numbers(metrics)
        charged = {} if task_of(self.config).reports_windows else {"windows": 1}
        seconds = self._lap()
        self._validation_seconds = max(self._validation_seconds, seconds)
        self.journal.write("validation", step=step, **{"seconds": round(seconds, 6), **values, **charged})
        if step == self.logged:
            self._metrics |= {f"validation_{key}": value for key, value in values.items()}

    def generated(self, step: int, series: int, **metrics: SupportsFloat) -> None:
        self.journal.write("generation", step=step, series=int(series), **numbers(metrics))

    def due(self, step: int) -> bool:
        return step % self.config.checkpoint_every == 0 or step in (self.config.steps, self._stable_until)

    @cached_property
    def _stable_until(self) -> int:
        from lvjobs.tasks.registry import task_of

        return task_of(self.config).stable_until(self.config.params, self.config.steps) or 0

    def checkpoint(self, step: int, state: State, *, final: bool = False) -> Path:
        if step != self.logged:
            raise ValueError(
                f"run.checkpoint({step}): the last step that was logged is {self.logged}; "
                f"call run.log(step) first, then checkpoint that step"
            )
        started = time.monotonic()
        name = CheckpointName(self.generation, step)
        path, size = write_checkpoint(
            self.layout, name, state, self._metrics, self._chain, final=final, processes=self.team.size
        )
        if final and not size:
            raise ValueError(
                f"run.checkpoint({step}, final=True): step {step} was checkpointed already, without final=True; pass "
                f"it the first time"
            )
        self.checkpointed, self._ended = step, final
        if size:  # otherwise it existed already
            self._note_checkpoint(name, size, time.monotonic() - started)
        self._lap()
        return path

    def publish_harvested(self, step: int, fill: Callable[[Path], dict[str, str]]) -> bool:
        """Publish the checkpoint of a program, which `fill` copies into a directory; return False if `step` has one.

        Args:
            step: The steps that are in it.
            fill: Called with a new directory; returns the SHA-256 of each file, by its path in the directory.

        Raises:
            Superseded, LvjobsError: see `checkpoint`.
            ValueError: from `fill`; nothing was published.
        """
        started = time.monotonic()
        name = CheckpointName(self.generation, step)
        metrics = self._metrics if step == self.logged else {}
        _, size = write_directory(self.layout, name, fill, metrics, self._chain, self.processes)
        self.checkpointed = max(self.checkpointed, step)
        if size:
            self._note_checkpoint(name, size, time.monotonic() - started)
        return bool(size)

    def _note_checkpoint(self, name: CheckpointName, size: int, seconds: float) -> None:
        self._checkpoint_seconds = max(self._checkpoint_seconds, seconds)
        self.journal.write("checkpoint", step=name.step, name=str(name), bytes=size, seconds=round(seconds, 6))
        config = self.config
        prune(
            self.layout,
            self.generation,
            self.invalid,
            keep_last=config.keep_last,
            keep_best=config.keep_best,
            stable=self._stable_until,
        )

    def may_begin(self) -> bool:
        """Return whether the run need not stop. This is called before anything is loaded."""
        return not self.must_stop()

    def should_stop(self) -> bool:
        return self.team.agree(self.must_stop())

    def must_stop(self) -> bool:
        """Return whether this process must stop: check a flag and a clock, and every few seconds the run directory."""
        if self.reason is None:
            self.reason = self._why_stop()
            if self.reason is not None:
                self.journal_signal(self.reason)
        return self.reason is not None

    def journal_signal(self, signal: str) -> None:
        """Journal, the first time only, that the run is asked to stop. Any thread may call this."""
        with self._signal_lock:
            if not self._signal_journaled:
                self._signal_journaled = True
                self.journal.write("signal", signal=signal, step=self.logged)

    def _why_stop(self) -> str | None:
        if signal := signals.received() or self._time_limit():
            is_last = signal in (DEADLINE, "SIGUSR2") and self._meter.ends_with(self.deadline, time.time())
            return OUT_OF_GPU_HOURS if is_last else signal
        now = time.monotonic()
        if now - self._checked > _CHECK_EVERY:
            self._checked = now
            try:
                if reason := self._check_directory():
                    return reason
            except OSError:  # the fence is checked again before anything is published
                if now - self._readable > _UNREADABLE_SECONDS:
                    raise
            else:
                self._readable = now
        if self.submission.is_revoked:
            return REVOKED
        if self._is_at_rung():
            return RUNG
        if self.logged < self.config.steps and self._meter.is_used_up(self._executed):
            return EXHAUSTED
        lead = self.deadline.lead if self.runs_a_program else 0.0
        is_over = self._meter.must_release_gpus(time.time(), self._seconds_to_checkpoint(), lead)
        return OUT_OF_GPU_HOURS if is_over else None

    def _is_at_rung(self) -> bool:
        """Return whether the run is at the step at which it stops; a program once its checkpoint of it is copied."""
        reached = self.checkpointed if self.runs_a_program else self.logged
        return 0 < self.submission.stop_at <= reached < self.config.steps

    def _time_limit(self) -> str | None:
        return DEADLINE if self.deadline.has_come(time.time(), self._seconds_to_checkpoint()) else None

    @property
    def gpu_seconds_end(self) -> float | None:
        """Return when the run's allowance of GPU-seconds is used up (epoch seconds); None: it has no such limit."""
        return self._meter.gpu_seconds_end

    def _seconds_to_checkpoint(self) -> float:
        """Return the seconds until the next step would be in a checkpoint, including its validation if one is due."""
        step = self.logged + 1
        validates = step % self.config.validate_every == 0 or step == self.config.steps
        return self._step_seconds + self._checkpoint_seconds + (self._validation_seconds if validates else 0.0)

    def _check_directory(self) -> str | None:
        """Return why the run directory demands a stop, or None. Raises OSError if it is gone or does not answer."""
        self.layout.root.stat()
        if is_superseded(self.layout, self.generation):
            return "superseded"
        self.submission.refresh()
        self._meter.refresh()
        return None

    @property
    def is_stranded(self) -> bool:
        """Return whether the run directory is gone because its study was moved or deleted."""
        try:
            self.layout.root.stat()
        except FileNotFoundError:
            return True
        except OSError:  # the file system does not answer, which proves nothing
            return False
        return False

    def _lap(self) -> float:
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        return seconds
