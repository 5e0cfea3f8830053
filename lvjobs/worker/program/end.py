"""The end of a program: done, stopped early, killed, or failed. Pure.

exit code                    step reached      lvjobs asked it to stop    then
of a node that does not answer                either                     lost: retried
0                            the last          either                     done
0                            earlier           yes                        stopped early
0                            earlier           no                         failed; done with `may_end_early`
anything                     earlier           yes                        stopped early
SIGKILL, SIGTERM, a code of `retry_exit_codes` no                         lost: retried
1, of a launcher whose process got SIGKILL    no                         lost: retried
anything that only shows the loss of a peer   no                         lost: retried
anything else                any               no                         failed: held

Of several processes, the one that shows the cause is judged (`cause_of`).
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

_CHILD_KILLED = re.compile(
    r"\s*exitcode\s*: -9 \(pid|.* died with <Signals\.SIGKILL: 9>"
    r"|.*DataLoader worker \(pid.* is killed by signal: Killed"
)
"""A line that reports that a process of the program was killed: of torchrun, of accelerate with one process, and of a
DataLoader."""

_BY_LAUNCHER = "forcefully exiting via"
"""The words of torchrun when it itself kills a rank, because another one failed and this one did not end."""

_PEER_LOST = re.compile(
    r"Connection closed by peer|typically caused by a remote worker crashing|DistNetworkError|DistStoreError"
    r"|ncclRemoteError|ncclSystemError|NCCL .*(remote process|unhandled system error)|NCCL communicator was aborted"
    r"|[Cc]onnection (reset|was reset|closed) by (remote )?peer"
)
"""Words of gloo, NCCL and torch for a process that lost another one: the failure is that other one's."""

_ANY_ERROR = re.compile(
    r"(?:\[\w+\]:? ?)?(?:[A-Za-z_][\w.]*\.)?(?P<kind>[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit)):"
)
"""A line that ends a traceback, with or without the mark of a rank."""

_OF_LAUNCHERS = frozenset({"ChildFailedError", "SignalException"})
"""Errors by which torchrun reports those of its ranks."""

_PYTHON_ERROR = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)): (.*)")

_SHOWN = 3
"""The last lines that an error's message has if no line names the error."""


@dataclass(frozen=True)
class ProcessEnd:
    """The end of one process that lvjobs started: its exit code, negative for a signal, and its last lines.

    `rank` counts all that were started for the run. `node` is Slurm's name of its node, if that is not the worker's.
    `is_ours`: lvjobs killed it, because of another one's end or because the run has to stop. `is_lost`: nobody knows,
    because its node does not answer.
    """

    rank: int
    code: int
    tail: Sequence[str] = ()
    node: str = ""
    is_ours: bool = False
    is_lost: bool = False


@dataclass(frozen=True)
class Outcome:
    """The known facts about a program that has ended.

    `code` is negative for a signal. `step` is the last step that was reported or is in a checkpoint, of `steps`; `gap`
    is the distance between the last two reports. `counts` says whether the run reads steps at all, `reports` how many
    were read. `tail` has the last lines of its output. `rank`, `node` and `is_lost` are those of the judged process.
    """

    code: int
    step: int
    steps: int
    gap: int
    counts: bool
    reports: int
    was_stopped: bool
    tail: Sequence[str] = ()
    rank: int = 0
    node: str = ""
    is_lost: bool = False


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

    def __init__(self, code: int, rank: int = 0) -> None:
        self.code, self.rank = code, rank
        super().__init__(f"the program was ended by {end_words(code)}")


def end_words(code: int) -> str:
    """Return how a process ended, in words: "SIGKILL", "exit code 3"."""
    number = -code if code < 0 else code - _SHELL
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"


def cause_of(ends: Sequence[ProcessEnd]) -> ProcessEnd:
    """Return the end that shows why the program ended: of a killed process, else of an error that is no peer's."""

    def weight(end: ProcessEnd) -> int:
        if end.code == 0:
            return 5
        if end.is_ours:
            return 4
        if end.is_lost:
            return 0
        if _was_killed(end.code) or _launcher_lost_a_child(end.tail):
            return 1
        return 3 if lost_a_peer(end.tail) else 2

    return min(ends, key=weight)


def lost_a_peer(tail: Sequence[str]) -> bool:
    """Return whether all errors in these lines are those of a process that lost another one."""
    found = [(match["kind"], line) for line in tail if (match := _ANY_ERROR.match(line))]
    own = [line for kind, line in found if kind not in _OF_LAUNCHERS]
    return any(map(_PEER_LOST.search, tail)) and all(map(_PEER_LOST.search, own))


def _was_killed(code: int) -> bool:
    return (code < 0 or code > _SHELL) and (-code if code < 0 else code - _SHELL) in KILLED


def _launcher_lost_a_child(tail: Sequence[str]) -> bool:
    return any(map(_CHILD_KILLED.match, tail)) and not any(_BY_LAUNCHER in line for line in tail)


def judge(outcome: Outcome, config: CommandConfig) -> ProgramEnd:
    """Return how the program ended.

    Raises:
        ProgramFailed: it failed, or it ended too early.
        ProgramLost: it was killed.
    """
    code = outcome.code
    if outcome.is_lost:  # also if the run had to stop: srun ends the worker when an agent was killed
        raise ProgramLost(code, outcome.rank)
    # A program that was asked to stop may end with 0 at any step: what it did not report counts only without that.
    unreported = 0 if outcome.was_stopped else outcome.gap - 1
    if code == 0 and outcome.step + unreported >= outcome.steps:
        return ProgramEnd(is_done=True, step=outcome.steps)
    if outcome.was_stopped:
        return ProgramEnd(is_done=False, step=outcome.step)
    if code == 0:
        return _ended_early(outcome, config)
    if code in config.retry_exit_codes or _was_killed(code):
        raise ProgramLost(code, outcome.rank)
    if _launcher_lost_a_child(outcome.tail) or lost_a_peer(outcome.tail):
        raise ProgramLost(-signal.SIGKILL, outcome.rank)
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
            return RecordedError(kind, message, text, breakdown_of(kind, message), outcome.node)
    shown = " | ".join(outcome.tail[-_SHOWN:]) if outcome.tail else "it printed nothing"
    return RecordedError("ProgramFailed", f"{end_words(outcome.code)}: {shown}", text)
