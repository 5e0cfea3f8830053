"""The end of a launcher tells a process that was killed from one that failed."""

import signal

import pytest

from lvjobs.study.program.command import CommandConfig
from lvjobs.worker.program.end import Outcome, ProgramFailed, ProgramLost, judge

CONFIG = CommandConfig(command=["torchrun", "train.py"])
FAILURE = """\
  time      : 2026-11-28_13:51:48
  host      : localhost
  rank      : {rank} (local_rank: {rank})
  exitcode  : {code} (pid: 2297{rank}) {words}
  error_file: <N/A>
"""
ACCELERATE = "subprocess.CalledProcessError: Command '['python', 'train.py']' died with <Signals.SIGKILL: 9>."
IMPATIENT = "Unable to shutdown process 22971 via Signals.SIGTERM, forcefully exiting via Signals.SIGKILL"


def report(first, second):
    """The end of what torchrun prints: each rank's exit code."""
    codes = [FAILURE.format(rank=rank, code=code, words="") for rank, code in enumerate((first, second))]
    return ["raise ChildFailedError(", "Failures:", *codes[0].splitlines(), "Root Cause:", *codes[1].splitlines()]


def outcome(tail, code=1):
    return Outcome(code=code, step=3, steps=9, gap=1, counts=True, reports=3, was_stopped=False, tail=tail)


@pytest.mark.parametrize("tail", [report(-15, -9), report(1, -9), report(-9, 1), ["Traceback", ACCELERATE]])
def test_a_killed_rank_is_a_kill(tail):
    with pytest.raises(ProgramLost, match="SIGKILL") as lost:
        judge(outcome(tail), CONFIG)
    assert lost.value.code == -signal.SIGKILL


@pytest.mark.parametrize("tail", [report(-15, 1), report(-15, -11), [IMPATIENT, *report(-9, 1)]])
def test_a_failed_rank_is_a_failure(tail):
    with pytest.raises(ProgramFailed):
        judge(outcome(tail), CONFIG)
