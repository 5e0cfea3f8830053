"""The programs in tests/programs behave as the tests that run them expect."""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

PROGRAMS = Path(__file__).parent.parent / "programs"
COMPILER = shutil.which("cc")
MODES = {"renamed": [], "in place": ["--in-place"], "named": ["--named"], "marker": ["--marker", "DONE"]}


def command(*options, out):
    return [sys.executable, str(PROGRAMS / "counter.py"), "--out", str(out), *map(str, options)]


def counter(*options, out):
    return subprocess.run(command(*options, out=out), capture_output=True, text=True, check=False)


@contextmanager
def started(words):
    """Start a program, and kill it at the end of the block where it still runs."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process, beginning):
    """Read a program's lines up to one that begins like this."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"the program ended before it printed {beginning}")


def killed_at(words, beginning):
    """Kill a program once it has printed a line that begins like this."""
    with started(words) as process:
        read_until(process, beginning)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert counter("--steps", 20, out=out).returncode == 0
    return (out / "result.json").read_bytes()


@pytest.fixture(scope="module")
def heat(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    program = tmp_path_factory.mktemp("heat") / "heat"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run([COMPILER, "-O1", *warnings, "-o", program, PROGRAMS / "heat.c", "-lm"], check=True)
    return str(program)


def test_no_program_knows_lvjobs():
    sources = [*PROGRAMS.glob("*.py"), *PROGRAMS.glob("*.c")]
    assert len(sources) >= 9
    assert [source.name for source in sources if "lvjobs" in source.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("mode", MODES)
def test_a_counter_killed_and_resumed_gives_the_same_result(mode, undisturbed, tmp_path):
    options = ["--steps", 20, *MODES[mode]]
    killed_at(command(*options, "--hang-at", 7, out=tmp_path), "step 7:")
    assert not (tmp_path / "result.json").exists()
    resumed = counter(*options, "--resume", "auto", out=tmp_path)
    assert resumed.stdout.startswith("resumed from step 5\n")
    assert (tmp_path / "result.json").read_bytes() == undisturbed


def test_a_counter_resumes_from_an_older_checkpoint_that_is_given(undisturbed, tmp_path):
    counter("--steps", 15, "--named", out=tmp_path)
    resumed = counter("--steps", 20, "--named", "--resume", tmp_path / "checkpoint-10.json", out=tmp_path)
    assert resumed.stdout.startswith("resumed from step 10\nstep 11: ")
    assert (tmp_path / "result.json").read_bytes() == undisturbed


def test_a_seed_or_a_learning_rate_changes_the_result(undisturbed, tmp_path):
    results = {undisturbed}
    for number, options in enumerate((["--seed", 1], ["--lr", 0.2])):
        counter("--steps", 20, *options, out=tmp_path / str(number))
        results.add((tmp_path / str(number) / "result.json").read_bytes())
    assert len(results) == 3


def killed_inside_a_save(*options, out, file, whole):
    """Resume a counter, and kill it when its next save has written a part of a file."""
    with started(command("--steps", 20, "--resume", "auto", "--slow-save", 600, *options, out=out)) as process:
        read_until(process, "step 10:")
        while not (file.exists() and 0 < file.stat().st_size < whole):
            assert process.poll() is None
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("in place", "checkpoint.json"),
        ("named", "checkpoint-10.json"),
        ("marker", "checkpoint-10/state.json"),
    ],
)
def test_a_kill_inside_a_save_leaves_a_torn_checkpoint_that_crashes_the_resume(mode, name, tmp_path):
    options = ["--size", 100_000, *MODES[mode]]
    counter("--steps", 5, *options, out=tmp_path)
    file = tmp_path / name
    killed_inside_a_save(*options, out=tmp_path, file=file, whole=100_000)
    with pytest.raises(json.JSONDecodeError):
        json.loads(file.read_text(encoding="utf-8"))
    assert not (file.parent / "DONE").exists()
    resumed = counter("--steps", 20, "--resume", "auto", *options, out=tmp_path)
    assert (resumed.returncode, "JSONDecodeError" in resumed.stderr) == (1, True)


def test_a_kill_inside_a_renamed_save_keeps_the_old_checkpoint(undisturbed, tmp_path):
    counter("--steps", 5, "--size", 100_000, out=tmp_path)
    temporary = tmp_path / "checkpoint.json.tmp"
    killed_inside_a_save("--size", 100_000, out=tmp_path, file=temporary, whole=100_000)
    assert counter("--steps", 20, "--resume", "auto", out=tmp_path).stdout.startswith("resumed from step 5\n")
    assert (tmp_path / "result.json").read_bytes() == undisturbed


def test_a_checkpoint_has_the_size_that_is_asked_for(tmp_path):
    counter("--named", "--size", 12_345, out=tmp_path)
    assert [path.stat().st_size for path in tmp_path.glob("checkpoint-*")] == [12_345, 12_345]


def test_a_marker_stands_in_each_directory(tmp_path):
    counter("--marker", "DONE", out=tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert names == {f"checkpoint-{step}/{name}" for step in (5, 10) for name in ("state.json", "DONE")}


@pytest.mark.parametrize("code", [0, 3])
def test_a_counter_exits_early_with_the_code_that_is_asked_for(code, tmp_path):
    ended = counter("--exit-at", f"6:{code}", out=tmp_path)
    assert (ended.returncode, ended.stdout.splitlines()[-1][:7]) == (code, "step 6:")
    assert not (tmp_path / "result.json").exists()


def test_a_counter_raises_once(tmp_path):
    options = ["--raise-at", 6, "--once", tmp_path / "raised"]
    failed = counter(*options, out=tmp_path / "out")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ValueError: step 6 has failed")
    assert counter(*options, "--resume", "auto", out=tmp_path / "out").returncode == 0


def test_a_counter_hangs_until_it_is_killed(tmp_path):
    with started(command("--hang-at", 7, out=tmp_path)) as process:
        read_until(process, "step 7:")
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            assert process.poll() is None
        process.kill()
        assert process.stdout.read() == ""
    assert process.returncode == -signal.SIGKILL


def test_steps_are_counted_from_zero_on_request(tmp_path):
    lines = counter("--from-zero", "--steps", 5, out=tmp_path).stdout.splitlines()
    assert (lines[0][:7], lines[-1][:7]) == ("step 0:", "step 4:")
    assert json.loads((tmp_path / "checkpoint.json").read_text(encoding="utf-8"))["step"] == 5


def test_a_counter_that_ignores_the_resume_begins_anew(tmp_path):
    counter("--steps", 5, out=tmp_path)
    assert counter("--resume", "auto", "--ignore-resume", out=tmp_path).stdout.startswith("step 1:")


def test_a_counter_writes_outside_its_directory_on_request(tmp_path):
    counter("--write-at", tmp_path / "outside", out=tmp_path / "out")
    assert (tmp_path / "outside").read_text(encoding="utf-8") == "10\n"


@pytest.mark.parametrize(("reaction", "saved"), [("save", True), ("exit0", False)])
def test_a_trapped_signal_ends_the_counter_with_zero(reaction, saved, tmp_path):
    forever = ["--steps", 10**9, "--every", 10**9, "--seconds-per-step", 0.01]
    with started(command(*forever, "--trap", f"TERM:{reaction}", out=tmp_path)) as process:
        read_until(process, "step 3:")
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == (["checkpoint.json"] if saved else [])


def test_an_ignored_signal_changes_nothing(tmp_path):
    forever = ["--steps", 10**9, "--every", 10**9, "--seconds-per-step", 0.01]
    with started(command(*forever, "--trap", "TERM:ignore", out=tmp_path)) as process:
        read_until(process, "step 3:")
        process.terminate()
        read_until(process, "step 9:")


def test_the_children_of_a_counter_outlive_it(tmp_path):
    with started(command("--children", 2, out=tmp_path)) as process:
        word, *pids = process.stdout.readline().split()
        children = [psutil.Process(int(pid)) for pid in pids]
        process.wait()
        alive = [child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children]
        for child in children:
            child.kill()
    assert (word, alive) == ("children:", [True, True])


def test_a_heat_solver_killed_and_resumed_gives_the_same_state(heat, tmp_path):
    subprocess.run([heat, "-n", "40", "-o", tmp_path / "whole"], capture_output=True, check=True)
    killed_at([heat, "-n", "1000000", "-s", "5", "-o", str(tmp_path / "killed")], "step 25 ")
    words = [heat, "-n", "40", "-o", tmp_path / "resumed", "-r", tmp_path / "killed" / "state-20.bin"]
    resumed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert resumed.startswith("step 21 residual ")
    last = [(tmp_path / name / "state-40.bin").read_bytes() for name in ("whole", "resumed")]
    assert last[0] == last[1]


def test_a_heat_solver_refuses_a_torn_state(heat, tmp_path):
    (tmp_path / "torn.bin").write_bytes(b"HEAT 1\n\0" + bytes(100))
    ended = subprocess.run([heat, "-r", tmp_path / "torn.bin"], cwd=tmp_path, capture_output=True, check=False)
    assert (ended.returncode, b"not a whole state" in ended.stderr) == (2, True)
