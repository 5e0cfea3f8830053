"""The findings of a rehearsal among the processes of this machine. The processes are real."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lvjobs.lab.processes import wait_until
from lvjobs.processes import files_written_by, with_variable
from lvjobs.records.journal import Entry
from lvjobs.rehearsal import escapes
from lvjobs.rehearsal.escapes import EscapeWatch
from lvjobs.rehearsal.processes import RunProcesses, end_all, kill, kill_one
from lvjobs.rehearsal.saves import SavePlace
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import RunConfig

HOLDING = """
import sys, time
held = [open(path, mode) for path, mode in zip(sys.argv[1::2], sys.argv[2::2])]
print("open", flush=True)
time.sleep(600)
"""


class First:
    """The first of several."""

    def choice(self, several):
        return several[0]


@pytest.fixture
def run(tmp_path):
    layout = RunLayout(tmp_path / "study" / "checkpoints" / "run")
    (layout.root / "000002.work" / "out").mkdir(parents=True)
    return layout


@contextmanager
def process(*words, code=HOLDING, generation=2, run=None, cwd=None, **variables):
    """A process of the run's program, once it has printed a line."""
    progress = {"LVJOBS_PROGRESS": f"{run.root}/{generation:06d}.work/.lvjobs/progress.jsonl"} if run else {}
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env={"PATH": os.defpath, **progress, **variables},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        assert child.stdout.readline() == "open\n"
        yield child
    finally:
        for each in psutil.Process(child.pid).children(recursive=True) if child.poll() is None else ():
            each.kill()
        child.kill()
        child.communicate()


def test_processes_are_found_by_a_variable_and_files_by_who_writes_them(tmp_path):
    written, read = tmp_path / "written", tmp_path / "read"
    read.touch()
    with process(written, "w", read, "r", MARK="beginning-end") as child:
        assert with_variable("MARK", "beginning-") == {child.pid: "beginning-end"}
        assert with_variable("MARK", "end") == {}
        assert files_written_by(child.pid) - {Path(os.devnull)} == {written}
    assert files_written_by(child.pid) == set()


RANK = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"
LAUNCHER = f"""
import os, subprocess, sys, time
ranks = []
for rank in "01":
    words = [sys.executable, "-c", {RANK!r}]
    ranks.append(subprocess.Popen(words, env={{**os.environ, "LOCAL_RANK": rank}}, stdout=subprocess.PIPE))
for rank in ranks:
    rank.stdout.readline()
print("open", flush=True)
time.sleep(600)
"""


def test_ranks_are_told_from_their_launcher_and_from_their_own_processes(run):
    there = RunProcesses(run)
    with process(code=LAUNCHER, run=run) as launcher:
        ranks = [each.pid for each in psutil.Process(launcher.pid).children()]
        assert sorted(there.ranks(2)) == sorted(ranks)
        assert len(ranks) == 2
        assert wait_until(lambda: len(there.of_program(2)) == 5, 60), (
            "an environment is empty while a program is started"
        )
        assert there.launchers(2) == [launcher.pid]
        assert there.ranks(1) == []
        assert kill_one(ranks, First())
        assert wait_until(lambda: min(ranks) not in there.ranks(2), 60)
        assert kill(there.of_program(2))
    assert not kill_one([], First())


def test_what_works_for_a_study_is_ended_and_nothing_else(run, tmp_path):
    """A stopped process, too. A program of a study beside it trains on."""
    beside = RunLayout(tmp_path / "study2" / "checkpoints" / "run")
    with process(run=run) as program, process(run=beside) as other, process(cwd=tmp_path) as mere:
        os.kill(program.pid, signal.SIGSTOP)
        end_all(tmp_path / "study")
        assert program.wait(60) == -signal.SIGKILL
        assert (other.poll(), mere.poll()) == (None, None)


def test_the_shell_of_a_user_in_a_working_directory_is_not_left_behind(run):
    work = run.root / "000002.work"
    psutil.Process().terminal()  # psutil keeps the terminals that there are now, for good
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(work)
        os.execvp("sleep", ["sleep", "600"])
    try:
        assert wait_until(lambda: psutil.Process(child).cwd() == str(work), 60)
        with process(cwd=work) as left:
            assert RunProcesses(run).left_behind(3) == [left.pid]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def a_program(**keys):
    params = {"command": ["train", "{steps}", "{checkpoint_every}"], "checkpoint": "{out}/ckpt-{step}.pt", **keys}
    return RunConfig(task=COMMAND_TASK, steps=10, checkpoint_every=5, params=params)


SAVING = """
import sys, time
print("open", flush=True)
while True:
    time.sleep(0.05)
    with open(sys.argv[1], "w"):
        time.sleep(0.05)
"""


@pytest.mark.parametrize("name", ["ckpt-5.pt", "ckpt-5.pt.tmp", ".tmp-ckpt-5"])
def test_a_program_is_killed_inside_a_save(run, name):
    """Also one that writes a file beside the checkpoint and renames it."""
    path = run.root / "000002.work" / "out" / name
    with process(path, code=SAVING, run=run) as child:
        assert SavePlace.of(run, a_program()).kill_inside_a_save(2, lambda: False)
        assert child.wait() < 0


SAVING_AT_FIRST = """
import sys, time
with open(sys.argv[1], "w"):
    print("open", flush=True)
    time.sleep(1)
while True:
    time.sleep(0.05)
    with open(sys.argv[1], "w"):
        time.sleep(0.05)
"""


def test_a_save_counts_although_the_one_before_it_was_open_at_first(run):
    path = run.root / "000002.work" / "out" / "ckpt-5.pt"
    end = time.monotonic() + 600
    with process(path, code=SAVING_AT_FIRST, run=run) as child:
        assert SavePlace.of(run, a_program()).kill_inside_a_save(2, lambda: time.monotonic() > end)
        assert child.wait() < 0


def test_a_log_and_a_file_that_stays_open_are_no_saves(run):
    looks = iter([False, False, True])
    out = run.root / "000002.work" / "out"
    with process(out / "log.txt", "w", out / "ckpt-0.pt", "w", run=run) as child:
        assert not SavePlace.of(run, a_program()).kill_inside_a_save(2, lambda: next(looks))
        assert child.poll() is None


def test_a_directory_without_its_last_file_is_a_save(run):
    looks = iter([False, True])
    directory = run.root / "000002.work" / "out" / "ckpt-5"
    directory.mkdir()
    config = a_program(checkpoint="{out}/ckpt-{step}", complete="state.json")
    with process(run=run) as child:
        (directory / "state.json").touch()
        assert not SavePlace.of(run, config).kill_inside_a_save(2, lambda: next(looks))
        (directory / "state.json").unlink()
        assert SavePlace.of(run, config).kill_inside_a_save(2, lambda: False)
        assert child.wait() < 0


def test_a_program_without_checkpoints_has_no_place_for_them(run):
    assert SavePlace.of(run, a_program(checkpoint="")) is None


def begin(run, generation):
    lines = [Entry("claim", 1.0, {"generation": generation}), Entry("software", 1.0, {})]
    run.journal(generation).write_text("".join(line.to_line() for line in lines))


def test_output_elsewhere_is_seen_and_caches_are_not(run, tmp_path, monkeypatch):
    monkeypatch.setattr(escapes, "_NO_OUTPUT", ("/dev", "/proc"))
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    begin(run, 2)
    outside = tmp_path / "elsewhere.txt"
    words = [outside, "w", home / ".cache" / "x", "w", run.root / "000002.work" / "out" / "y", "w"]
    watch = EscapeWatch(run)
    with process(*words, run=run):
        watch.look()
    assert (watch.outside, watch.breaches) == ([str(outside)], [])


def test_what_ended_attempts_leave_is_seen_once_the_next_one_has_begun(run):
    old = run.root / "000001.work" / "out"
    old.mkdir(parents=True)
    (old / "late.txt").touch()
    begin(run, 1)
    run.journal(2).write_text(Entry("claim", 1.0, {"generation": 2}).to_line())
    before = EscapeWatch(run)
    with process(cwd=old) as child:
        before.look()
        assert before.breaches == [], "the next attempt deletes that directory before it begins"
        begin(run, 2)
        watch = EscapeWatch(run)
        watch.look()
        first, second = watch.breaches
        assert first == "a later attempt writes to the directory of attempt 1: late.txt"
        assert second.startswith(f"a process of an ended attempt survives: {child.pid} ")
        watch.close()
        assert child.wait() < 0
