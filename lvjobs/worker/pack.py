"""A pack: several runs that share one job, each trained by a process of its own. Runs fail independently.

This process trains nothing. It starts a worker for each run, a fixed number at once, and acts for the job as a whole,
which its workers do not: it requeues the job once all runs have stopped, or forbids that if no work is left. It ends
with the last worker. A run that fails or is killed is not restarted here. The next reconcile pass handles it; for a
killed worker, this process writes the journal line.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lvjobs.cluster import inside
from lvjobs.errors import LvjobsError
from lvjobs.records.failure import read_error
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import Claim, parse_generation
from lvjobs.study.layout import RunLayout
from lvjobs.worker import signals
from lvjobs.worker.early_exit import DEADLINE, Deadline, carry_out, decide_early_exit, gather_evidence
from lvjobs.worker.environment import DONE, ERROR, EXITED_EARLY, PACK, PACKED, WANTS_REQUEUE, JobEnvironment
from lvjobs.worker.generation import newest_generation
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.submission import Submission

_POLL_SECONDS = 0.1
_CHECK_SECONDS = 10.0
"""Seconds between two checks whether a run was revoked."""

_STOP_SECONDS = 60.0
"""Seconds that a worker whose run was revoked has to stop by itself, before it is killed: it may hang."""

_LEAST_SECONDS = 60.0
"""A run that could train for fewer seconds than this before the job ends is not started."""

_JOURNALED = frozenset({DONE, EXITED_EARLY, WANTS_REQUEUE})
"""Exit codes after which the worker's own journal has a final line.

ERROR is not among them: its journal has a line only if the error came from the training function.
"""


_FINAL_KINDS = frozenset({"error", "leave", "done"})


@dataclass
class _Child:
    layout: RunLayout
    submission: Submission
    process: "subprocess.Popen[bytes]"
    place: int
    revoked: float | None = None


def device_of(place: int, places: int, visible: str | None) -> str | None:
    """Return the CUDA_VISIBLE_DEVICES for a run at one of `places`; None to leave it unchanged.

    Runs side by side share the job's GPUs evenly; with one place, each run sees them all.
    """
    devices = [device for device in (visible or "").split(",") if device]
    return devices[place % len(devices)] if places > 1 and len(devices) > 1 else None


@dataclass
class PackRunner:
    """The runs of one job, `environment.side_by_side` of them at once."""

    layouts: Sequence[RunLayout]
    environment: JobEnvironment
    deadline: Deadline
    _children: list[_Child] = field(default_factory=list)
    _codes: list[int] = field(default_factory=list)
    _signal: str | None = None
    _checked: float = 0.0

    def run(self) -> int:
        """Train the runs, and return the job's exit code."""
        waiting, token = list(self.layouts), self.environment.token
        while True:
            self._pass_signal_on()
            while waiting and self._signal is None and len(self._children) < self.environment.side_by_side:
                layout = waiting.pop(0)
                submission = Submission(layout, token)
                if _is_wanted(layout, submission, token):
                    self._start(layout, submission)
            if not self._children:
                break
            self._reap()
            time.sleep(_POLL_SECONDS)
        waiting = [layout for layout in waiting if _is_wanted(layout, Submission(layout, token), token)]
        return self._close(is_unfinished=bool(waiting))

    def _start(self, layout: RunLayout, submission: Submission) -> None:
        taken = {child.place for child in self._children}
        place = next(place for place in range(self.environment.side_by_side) if place not in taken)
        environ = {name: value for name, value in os.environ.items() if name != PACK} | {PACKED: "1"}
        device = device_of(place, self.environment.side_by_side, environ.get("CUDA_VISIBLE_DEVICES"))
        if device is not None:
            environ["CUDA_VISIBLE_DEVICES"] = device
        with signals.shielded():  # until the worker listens, a signal waits and does not kill it
            process = subprocess.Popen([sys.executable, "-m", "lvjobs.worker", str(layout.root)], env=environ)
        self._children.append(_Child(layout, submission, process, place))

    def _pass_signal_on(self) -> None:
        """Start no more runs once the job is asked to stop, or its time is up; pass the signal on to the workers."""
        if self._signal is None and (name := signals.received()):
            self._signal = name
            for child in self._children:
                child.process.send_signal(getattr(signal, name))
        if self._signal is None and self.deadline.has_come(time.time(), _LEAST_SECONDS):
            self._signal = DEADLINE

    def _reap(self) -> None:
        now = time.monotonic()
        is_time = now - self._checked > _CHECK_SECONDS
        self._checked = now if is_time else self._checked
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                if is_time:
                    self._end_revoked(child, now)
                continue
            self._children.remove(child)
            self._codes.append(code)
            if code == WANTS_REQUEUE and self._signal is None:
                self._signal = DEADLINE
            if code not in _JOURNALED:
                _journal_killed(child, code)

    def _end_revoked(self, child: _Child, now: float) -> None:
        if child.revoked is None:
            child.submission.refresh()
            child.revoked = now if child.submission.is_revoked else None
        elif now - child.revoked > _STOP_SECONDS:
            child.process.kill()

    def _close(self, *, is_unfinished: bool) -> int:
        signals.deafen()
        if is_unfinished or WANTS_REQUEUE in self._codes:
            decision = decide_early_exit(gather_evidence(self._signal or DEADLINE, self.environment))
            action, detail = carry_out(decision, self.environment)
            _say(f"the job leaves ({detail}); {action}")
            return EXITED_EARLY
        if any(code not in (DONE, ERROR) for code in self._codes):
            return EXITED_EARLY
        if self.environment.on_slurm:
            inside.forbid_requeue(self.environment.job_id)
        return ERROR if ERROR in self._codes else DONE


def _is_wanted(layout: RunLayout, submission: Submission, token: str) -> bool:
    return not layout.done.exists() and not submission.is_revoked and not _has_failed(layout, token)


def _has_failed(layout: RunLayout, token: str) -> bool:
    """Return whether its code failed earlier in this job. It would fail again, and no pass ran that could hold it."""
    number = newest_generation(layout)
    if not number or Claim.read(layout.generation(number)).token != token:
        return False
    journal = layout.journal(number)
    entries = parse_entries(journal.read_bytes())[0] if journal.exists() else []
    return any(entry.kind == "error" and not read_error(entry.fields).breakdown for entry in entries)


def _journal_killed(child: _Child, code: int) -> None:
    """Journal for a run that its worker was killed, so that the next pass handles the run.

    A worker that ended before it claimed a generation has no journal: only the job's log has its error.
    """
    _say(f"{child.layout.root.name}: its worker failed ({code})")
    for path in child.layout.generations.iterdir() if child.layout.generations.is_dir() else ():
        if parse_generation(path.name) is None:  # such as what a process left that was killed while it claimed
            continue
        claim = Claim.read(path)
        if (claim.pid, claim.host) != (child.process.pid, os.uname().nodename):
            continue
        journal = child.layout.journal(claim.generation)
        entries = parse_entries(journal.read_bytes())[0] if journal.exists() else []
        if not any(entry.kind in _FINAL_KINDS for entry in entries):
            with contextlib.suppress(LvjobsError):  # a full disk: the job's end shows the failure
                JournalWriter(journal).write("died", status=code)


def _say(text: str) -> None:
    sys.stdout.write(f"lvjobs pack: {text}\n")
    sys.stdout.flush()  # a log may be followed while it grows
