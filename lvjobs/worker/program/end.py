"""The end of a program: done, stopped early, killed, or failed. Pure.

exit code                    step reached      lvjobs asked it to stop    then
0                            the last          either                     done
0                            earlier           yes                        stopped early
0                            earlier           no                         failed; done with `may_end_early`
anything                     earlier           yes                        stopped early
SIGKILL, SIGTERM, a code of `retry_exit_codes` no                         lost: retried
1, of a launcher whose process got SIGKILL    no                         lost: retried
anything else                any               no                         failed: held
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from lvjobs.records.failure import RecordedError, breakdown_of
from lvjobs.study.program.command import CommandConfig

_SHELL = 128
"""A shell, or a launcher, reports a process that a signal ended as this number plus the signal's."""

KILLED = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})
"""Signals that a program does not send to itself: something outside ended it."""

_CHILD_KILLED = re.compile(r"\s*exitcode\s*: -9 \(pid|.* died with <Signals\.SIGKILL: 9>")
"""A line by which a launcher reports that its own process was killed: torchrun, and accelerate with one process."""

_BY_LAUNCHER = "forcefully exiting via"
"""The words of torchrun when it itself kills a rank, because another one failed and this one did not end."""

_PYTHON_ERROR = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)): (.*)")

_SHOWN = 3
"""The last lines that an error's message has if no line names the error."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a program that has ended.

    `code` is negative for a signal. `step` is the last step that was reported or is in a checkpoint, of `steps`; `gap`
    is the distance between the last two reports. `counts` says whether the run reads steps at all, `reports` how many
    were read. `tail` has the last lines of its output.
    """

    code: int
    step: int
    steps: int
    gap: int
    counts: bool
    reports: int
    was_stopped: bool
    tail: Sequence[str] = ()


@dataclass(frozen=True)
class ProgramEnd:
    """The end of a program that did not fail: done at `step`, or stopped early."""

    is_done: bool
    step: int


class ProgramFailed(Exception):
    """The failure of a program, by its own fault as far as its exit code and output tell."""

    def __init__(self, recorded: RecordedError) -> None:
        self.recorded = recorded
        super().__init__(str(recorded))


class ProgramLost(Exception):
    """The end of a program that something else killed. `code` is its exit code, negative for a signal."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the program was ended by {end_words(code)}")


def end_words(code: int) -> str:
    """Return how a process ended, in words: "SIGKILL", "exit code 3"."""
    number = -code if code < 0 else code - _SHELL
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"


def judge(outcome: Outcome, config: CommandConfig) -> ProgramEnd:
    """Return how the program ended.

    Raises:
        ProgramFailed: it failed, or it ended too early.
        ProgramLost: it was killed.
    """
    code = outcome.code
    # A program that was asked to stop may end with 0 at any step: what it did not report counts only without that.
    unreported = 0 if outcome.was_stopped else outcome.gap - 1
    if code == 0 and outcome.step + unreported >= outcome.steps:
        return ProgramEnd(is_done=True, step=outcome.steps)
    if outcome.was_stopped:
        return ProgramEnd(is_done=False, step=outcome.step)
    if code == 0:
        return _ended_early(outcome, config)
    is_signal = code < 0 or code > _SHELL
    if code in config.retry_exit_codes or (is_signal and (-code if code < 0 else code - _SHELL) in KILLED):
        raise ProgramLost(code)
    if any(map(_CHILD_KILLED.match, outcome.tail)) and not any(_BY_LAUNCHER in line for line in outcome.tail):
        raise ProgramLost(-signal.SIGKILL)
    raise ProgramFailed(_error(outcome))


def _ended_early(outcome: Outcome, config: CommandConfig) -> ProgramEnd:
    if not outcome.counts and not outcome.reports:
        return ProgramEnd(is_done=True, step=outcome.steps)
    if config.may_end_early and outcome.step > 0:
        return ProgramEnd(is_done=True, step=outcome.step)
    message = (
        f"exit code 0 after step {outcome.step} of {outcome.steps}; submit it again with {{steps}} in its command, or "
        "with may_end_early = true"
    )
    if not outcome.reports:
        message = (
            f"exit code 0, but no line that it printed matches `progress`, so step {outcome.steps} was not seen; "
            "correct progress, and submit it again"
        )
    raise ProgramFailed(RecordedError("EndedEarly", message, "\n".join(outcome.tail)))


def wrong_step(name: str, step: int, most: int) -> RecordedError:
    """Return the error of a program whose checkpoint has a number in its name that cannot be its step."""
    return RecordedError(
        "WrongCheckpointStep",
        f"{name!r} is a checkpoint of step {step} by its name, and the run has {most} at most; correct "
        "checkpoint ({step} where the name has the step, * where it has another number), and submit it again",
    )


def _error(outcome: Outcome) -> RecordedError:
    """Return the error of a failed program: the exception that its output ends with, or its exit code."""
    text = "\n".join(outcome.tail)
    for line in reversed(outcome.tail):
        if match := _PYTHON_ERROR.match(line):
            kind, message = match[1].rpartition(".")[2], f"{match[2]} ({end_words(outcome.code)})"
            return RecordedError(kind, message, text, breakdown_of(kind, message))
    shown = " | ".join(outcome.tail[-_SHOWN:]) if outcome.tail else "it printed nothing"
    return RecordedError("ProgramFailed", f"{end_words(outcome.code)}: {shown}", text)
