"""Whole attempts of programs that know nothing of lvjobs: killed, stopped, broken, done. The result must not know."""

import io
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from program_helpers import COUNTER, EVERY, STEPS, make_program, processes_of, wait_for, wait_for_step
from worker_helpers import Zygote, entries, executed, journals, published, submit

import lvjobs
from lvjobs.errors import LvjobsError
from lvjobs.study.run import RunFile
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.checkpoints import find_newest_valid
from lvjobs.worker.early_exit import REVOKED
from lvjobs.worker.environment import DONE, ERROR, EXITED_EARLY
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.program import activate, execution
from lvjobs.worker.program.end import ProgramLost
from lvjobs.worker.submission import Submission

IN_PLACE = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"]}
NAMED = {"checkpoint": "{out}/checkpoint-{step}.json", "resume": ["--resume", "{checkpoint}"]}
MARKED = {"checkpoint": "{out}/checkpoint-{step}", "complete": "READY", "resume": ["--resume", "{checkpoint}"]}
KINDS = {"--in-place": IN_PLACE, "--named": NAMED, "--marker=READY": MARKED}


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote("lvjobs.worker.program.execution")
    yield zygote
    zygote.close()


def result(layout):
    return json.loads((layout.final / "out" / "result.json").read_text())


def hangs_once(directory, step):
    """Words that let a program wait for its end after this step, in the first attempt only."""
    return f"--hang-at={step}", f"--once={directory / 'once'}", "--seconds-per-step=0.02"


def gated(directory, *steps):
    """Words that let a program wait after each of these steps, until its gate is opened or it has trapped a signal."""
    gates = directory / "gates"
    gates.mkdir()
    for step in steps:
        (gates / str(step)).touch()
    return f"--gates={gates}"


def open_gates(directory):
    for path in (directory / "gates").iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def undisturbed(zygote, tmp_path_factory):
    layout = make_program(tmp_path_factory.mktemp("undisturbed") / "run", "--in-place", **IN_PLACE)
    assert zygote.run(layout) == DONE
    return result(layout)


def test_a_program_is_trained_to_its_last_step(zygote, tmp_path, undisturbed):
    layout = make_program(tmp_path / "run", "--named", **NAMED)
    assert zygote.run(layout) == DONE
    assert executed(layout) == list(range(1, STEPS + 1))
    assert result(layout) == undisturbed
    done = json.loads(layout.done.read_text())
    assert (done["step"], done["checkpoint"]) == (STEPS, f"000001-{STEPS:08d}")
    assert done["metrics"]["loss"] == entries(layout, "step")[-1]["loss"]
    assert published(layout)[-1] == f"000001-{STEPS:08d}"
    assert sorted(path.name for path in (layout.final / "out").iterdir()) == ["checkpoint-40.json", "result.json"]
    assert not list(layout.root.glob("*.work")), "its working directory is gone once it is done"
    assert zygote.run(layout) == DONE, "a rerun spends nothing"
    assert len(journals(layout)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("victim", ["worker", "program"])
def test_a_killed_run_ends_as_one_that_was_not(zygote, tmp_path, undisturbed, kind, victim):
    layout = make_program(tmp_path / "run", kind, gated(tmp_path, 20), *hangs_once(tmp_path, 25), **KINDS[kind])
    pid = zygote.start(layout)
    wait_for_step(layout, 20)  # before the save: the step of a checkpoint in place is read off the clock
    open_gates(tmp_path)
    wait_for(lambda: published(layout)[-1:] >= ["000001-00000020"], "two checkpoints")
    wait_for_step(layout, 25)
    (program,) = processes_of(layout)
    os.kill(pid if victim == "worker" else program.pid, signal.SIGKILL)
    assert zygote.wait(pid) == (-9 if victim == "worker" else 137)
    wait_for(lambda: not processes_of(layout), "the program ends with its worker")
    assert not entries(layout, "error")
    assert [each["status"] for each in entries(layout, "lost_process")] == ([] if victim == "worker" else [-9])
    found, invalid = find_newest_valid(layout)
    assert found is not None
    assert not invalid
    assert zygote.run(layout) == DONE
    assert entries(layout, "start")[1]["resumed_from"] == str(found.name)
    assert result(layout) == undisturbed
    if kind != "--in-place":  # the step of such a checkpoint is read off the clock
        again = [each["step"] for each in entries(layout, "step")]
        assert again.count(found.name.step) == 1, "no step before the checkpoint is executed again"


def test_a_program_that_was_killed_after_its_last_checkpoint_repeats_its_last_interval(zygote, tmp_path, undisturbed):
    """From the checkpoint of its last step, a Trainer would train one step more than it has."""
    once = tmp_path / "once"
    layout = make_program(tmp_path / "run", "--named", f"--hang-at={STEPS}", f"--once={once}", **NAMED)
    pid = zygote.start(layout)
    wait_for(lambda: published(layout)[-1:] == [f"000001-{STEPS:08d}"], "the last checkpoint")
    wait_for_step(layout, STEPS)
    os.kill(pid, signal.SIGKILL)
    zygote.wait(pid)
    assert zygote.run(layout) == DONE
    assert entries(layout, "start")[1]["resumed_from"] == f"000001-{STEPS - EVERY:08d}"
    assert executed(layout)[STEPS:] == list(range(STEPS - EVERY + 1, STEPS + 1))
    assert result(layout) == undisturbed


def test_no_torn_checkpoint_is_ever_published(zygote, tmp_path, undisturbed):
    """The program writes in place and slowly: nearly every kill hits a save."""
    layout = make_program(
        tmp_path / "run", "--in-place", "--slow-save=0.15", "--size=20000", "--seconds-per-step=0.003", **IN_PLACE
    )
    chance, kills = random.Random(5), 0
    while not layout.done.exists():
        pid = zygote.start(layout)
        if kills < 8:
            before = len(entries(layout, "checkpoint"))
            # A worker that stalls may find the last one alone, and the next attempt has nothing left to do.
            wait_for(lambda seen=before: len(entries(layout, "checkpoint")) > seen or layout.done.exists(), "a save")
            time.sleep(chance.uniform(0, 0.2))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            kills += 1
        zygote.wait(pid)
        found, invalid = find_newest_valid(layout)
        assert found is not None
        assert not invalid
        saved = json.loads((found.path / "work/out/checkpoint.json").read_text())
        assert found.name.step <= saved["step"], "its step is read off the clock"
    assert {key: result(layout)[key] for key in undisturbed} == undisturbed


def test_an_error_of_the_program_is_the_error_of_the_run(zygote, tmp_path):
    layout = make_program(tmp_path / "run", "--named", "--raise-at=15", "--seconds-per-step=0.02", **NAMED)
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert error["type"] == "ValueError"
    assert error["message"] == "step 15 has failed (exit code 1)"
    assert "Traceback (most recent call last)" in error["traceback"]
    assert error["step"] == 15
    assert published(layout) == ["000001-00000010"]


def test_an_exit_code_without_an_exception_is_an_error_with_the_last_lines(zygote, tmp_path):
    layout = make_program(tmp_path / "run", "--exit-at=12:3")
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert error["message"].startswith("exit code 3: step 10: loss ")


def test_a_program_that_exits_with_0_too_early_is_not_done(zygote, tmp_path):
    layout = make_program(tmp_path / "run", "--exit-at=12:0")
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert error["message"].startswith(f"exit code 0 after step 12 of {STEPS}; ")
    assert not layout.done.exists()


def test_a_program_that_may_end_early_is_done(zygote, tmp_path):
    layout = make_program(tmp_path / "run", "--exit-at=12:0", may_end_early=True)
    assert zygote.run(layout) == DONE
    assert json.loads(layout.done.read_text())["step"] == 12


def test_an_exit_code_can_be_declared_to_be_retried(zygote, tmp_path, undisturbed):
    once = tmp_path / "once"
    layout = make_program(
        tmp_path / "run", "--in-place", "--exit-at=20:42", f"--once={once}", retry_exit_codes=[42], **IN_PLACE
    )
    assert zygote.run(layout) == 42
    assert entries(layout, "lost_process")[0]["status"] == 42
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed


def test_a_program_trains_on_after_a_signal_until_its_next_checkpoint(zygote, tmp_path, undisturbed):
    words = ("--in-place", gated(tmp_path, 13, 25), "--children=2")
    layout = make_program(tmp_path / "run", *words, **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 13)
    assert len(processes_of(layout)) == 3
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: entries(layout, "signal"), "the worker has seen the signal")
    (tmp_path / "gates" / "13").unlink()
    assert zygote.wait(pid) == EXITED_EARLY
    (leave,) = entries(layout, "leave")
    assert leave["cause"] == "preempted"
    (signalled,) = (each["step"] for each in entries(layout, "signal"))
    assert signalled <= int(published(layout)[-1][-8:]) <= leave["step"], "it left after a checkpoint"
    assert not processes_of(layout), "its children end with it"
    open_gates(tmp_path)
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed


def test_a_program_that_saves_at_a_signal_gets_it(zygote, tmp_path, undisturbed):
    words = ("--in-place", gated(tmp_path, 13), "--trap=INT:save")
    layout = make_program(tmp_path / "run", *words, every=1000, stop="INT", **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 13)
    os.kill(pid, signal.SIGUSR2)
    assert zygote.wait(pid) == EXITED_EARLY
    (leave,) = entries(layout, "leave")
    assert leave["cause"] == "timeout"
    saved = int(published(layout)[-1][-8:])
    assert 10 < saved <= leave["step"] < STEPS, "it did not wait for the next checkpoint"
    open_gates(tmp_path)
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed


def test_a_launcher_that_ends_at_the_signal_does_not_end_the_save_of_what_it_started(zygote, tmp_path, undisturbed):
    """`accelerate launch` does so. The process group gets the signal, and the training saves for a second."""
    own = [sys.executable, str(COUNTER), "--steps={steps}", "--every={checkpoint_every}", "--out={out}"]
    launcher = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    more = [gated(tmp_path, 13), "--in-place", "--trap=TERM:save", "--slow-save=1"]
    command = [sys.executable, "-c", launcher, *own, *more]
    layout = make_program(tmp_path / "run", command=command, every=1000, stop="TERM", **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 13)
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) == EXITED_EARLY
    assert 10 < int(published(layout)[-1][-8:]) <= entries(layout, "leave")[0]["step"]
    assert not processes_of(layout)
    open_gates(tmp_path)
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed


def test_exit_code_0_after_a_signal_is_not_done(zygote, tmp_path, undisturbed):
    words = ("--in-place", gated(tmp_path, 13), "--trap=TERM:exit0")
    layout = make_program(tmp_path / "run", *words, stop="TERM", **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 13)
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) == EXITED_EARLY
    assert not layout.done.exists()
    open_gates(tmp_path)
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed


def test_exit_code_0_after_a_signal_counts_no_step_that_was_not_reported(zygote, tmp_path):
    """It prints every seventh step, and saves step 36 of 40 at the signal."""
    script = """
import json, signal, sys, time
def save(*_):
    json.dump({"step": 36}, open("out/checkpoint.json", "w"))
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
for step in range(7, 36, 7):
    print("step %d: loss 1" % step, flush=True)
    time.sleep(0.05)
time.sleep(600)
"""
    layout = make_program(
        tmp_path / "run", command=[sys.executable, "-c", script], stop="TERM", checkpoint="{out}/checkpoint.json"
    )
    pid = zygote.start(layout)
    wait_for_step(layout, 35)
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) == EXITED_EARLY
    assert not layout.done.exists()
    assert published(layout) == ["000001-00000035"]


def test_the_names_of_checkpoints_show_the_steps_of_a_program_that_reports_none(zygote, tmp_path):
    script = """
import os, signal, time
for step in (10, 20):
    open("out/%d.json" % step, "w").write("{}")
while not os.path.exists("../000001-00000020"):
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    layout = make_program(
        tmp_path / "run", command=[sys.executable, "-c", script], progress=[], checkpoint="{out}/{step}.json"
    )
    assert zygote.run(layout) == 137
    kinds = [
        (entry.kind, entry.fields["step"]) for entry in journals(layout)[0] if entry.kind in ("step", "checkpoint")
    ]
    assert kinds == [("step", 10), ("checkpoint", 10), ("step", 20), ("checkpoint", 20)]
    assert sum(each["steps"] for each in entries(layout, "step")) == 20, "they are charged"


@pytest.mark.parametrize("last", [STEPS, STEPS + 1])
def test_a_program_that_used_up_its_allowance_at_its_last_step_ends_by_itself(zygote, tmp_path, last):
    """Some programs make one step more than they are told."""
    script = f"""
import time
print("step {last}: loss 1", flush=True)
time.sleep(0.5)
open("out/result.json", "w").write("{{}}")
"""
    layout = make_program(tmp_path / "run", command=[sys.executable, "-c", script])
    submit(layout, allowance=STEPS)
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == DONE
    assert (layout.final / "out/result.json").exists()


def test_processes_that_a_program_leaves_behind_do_not_stay_as_zombies(zygote, tmp_path):
    """They are the worker's children, and it ends only with the run."""
    script = """
import os, time
from contextlib import suppress
from pathlib import Path
for _ in range(20):
    if not os.fork():
        os.fork()
        os._exit(0)
    os.wait()
def left():
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if " Z %d " % os.getppid() in each.read_text():
                return True
while left():
    time.sleep(0.1)
"""
    layout = make_program(tmp_path / "run", command=[sys.executable, "-c", script], progress=[])
    assert zygote.run(layout) == DONE


def test_a_run_of_a_pack_counts_the_gpus_that_it_sees(zygote, tmp_path):
    script = "import sys; open('out/seen', 'w').write(sys.argv[1])"
    layout = make_program(tmp_path / "run", command=[sys.executable, "-c", script, "{gpus}"], progress=[])
    assert zygote.run(layout, SLURM_GPUS_ON_NODE=4, CUDA_VISIBLE_DEVICES=2) == DONE
    assert (layout.final / "out/seen").read_text() == "1"


def test_a_program_that_ignores_its_checkpoint_is_held(zygote, tmp_path):
    words = ("--in-place", "--ignore-resume", gated(tmp_path, 20), *hangs_once(tmp_path, 25))
    layout = make_program(tmp_path / "run", *words, **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 20)  # before the save: its step is read off the clock
    open_gates(tmp_path)
    wait_for(lambda: published(layout)[-1:] >= ["000001-00000020"], "two checkpoints")
    wait_for_step(layout, 25)
    os.kill(pid, signal.SIGKILL)
    zygote.wait(pid)
    newest = int(published(layout)[-1][-8:])
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert error["type"] == "ResumeIgnored"
    assert error["message"].startswith(f"it was given the checkpoint of step {newest}, but began at step 1; ")
    assert published(layout)[-1].startswith("000001-"), "nothing of it was published"


def test_a_program_that_does_not_know_its_number_of_steps_is_held(zygote, tmp_path):
    command = [sys.executable, str(COUNTER), "--steps=1000000", "--every=10", "--out={out}", "--seconds-per-step=0.005"]
    layout = make_program(tmp_path / "run", command=command)
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert error["type"] == "TooManySteps"
    assert "{steps} in its command" in error["message"]
    assert max(executed(layout)) == STEPS, "a step's number is never more than the run has"
    assert sum(each.get("steps", 1) for each in entries(layout, "step")) > STEPS, "and what was executed is charged"


def leaves(zygote, layout, tmp_path, cause):
    """Start a worker whose program waits at a gate, and see it leave by itself for this cause."""
    worker = zygote.start(layout, LVJOBS_TOKEN="abc")
    try:
        wait_for(lambda: entries(layout, "leave"), "a worker that leaves")
    finally:
        open_gates(tmp_path)
    assert zygote.wait(worker) == EXITED_EARLY
    (leave,) = entries(layout, "leave")
    assert leave["cause"] == cause


def test_a_program_ends_when_its_allowance_is_used_up(zygote, tmp_path):
    layout = make_program(tmp_path / "run", "--in-place", gated(tmp_path, 20), **IN_PLACE)
    submit(layout, allowance=15)
    leaves(zygote, layout, tmp_path, "exhausted")
    assert not processes_of(layout)


def test_a_program_stops_at_its_rung_once_the_checkpoint_is_copied(zygote, tmp_path, undisturbed):
    layout = make_program(tmp_path / "run", "--named", gated(tmp_path, 2 * EVERY + 1), **NAMED)
    submit(layout, stop_at=2 * EVERY)
    leaves(zygote, layout, tmp_path, "rung")
    assert published(layout)[-1] == f"000001-{2 * EVERY:08d}"
    assert executed(layout)[-1] <= 2 * EVERY + 1
    submit(layout, token="def")
    assert zygote.run(layout, LVJOBS_TOKEN="def") == DONE
    assert result(layout) == undisturbed


def test_a_program_of_an_older_generation_publishes_nothing(zygote, tmp_path, undisturbed):
    layout = make_program(tmp_path / "run", "--in-place", *hangs_once(tmp_path, 5), **IN_PLACE)
    older = zygote.start(layout)
    wait_for_step(layout, 5)
    os.kill(older, signal.SIGSTOP)
    assert zygote.run(layout) == DONE
    os.kill(older, signal.SIGCONT)
    assert zygote.wait(older) == EXITED_EARLY
    assert {name[:6] for name in published(layout)} == {"000002"}
    assert result(layout) == undisturbed


def test_a_program_finds_its_place_in_its_environment_and_nothing_of_slurm(zygote, tmp_path):
    script = "import json, os; print('step 1'); json.dump(dict(os.environ), open('out/environment.json', 'w'))"
    layout = make_program(
        tmp_path / "run",
        command=[sys.executable, "-c", script],
        steps=1,
        progress=[r"^step (?P<step>\d+)"],
        environment={"RATE": "{rate}", "OUT": "{work}/{out}"},
        rate=1e-5,
    )
    assert zygote.run(layout, SLURM_NTASKS=4, SLURM_JOB_ID=7) == DONE
    seen = json.loads((layout.final / "out/environment.json").read_text())
    assert not [name for name in seen if name.startswith("SLURM")]
    assert seen["LVJOBS_RUN"] == "run"
    assert (seen["LVJOBS_STEP"], seen["LVJOBS_CHECKPOINT"], seen["LVJOBS_GENERATION"]) == ("0", "", "1")
    assert seen["RATE"] == "1e-05"
    assert seen["OUT"] == str(layout.root / "000001.work/out")
    assert str(Path(lvjobs.__file__).parents[1]) not in seen["PYTHONPATH"].split(os.pathsep)
    assert seen["WANDB_RUN_ID"].startswith("run-")


HOSTILE = [
    "; touch hacked",
    "$(touch hacked)",
    "`touch hacked`",
    "a b",
    "'",
    '"',
    "\\",
    "-n",
    "*",
    "é",
    "{steps",
    "a\nb",
]


def test_no_shell_reads_an_argument(zygote, tmp_path):
    script = "import json, sys; json.dump(sys.argv[1:], open('out/seen.json', 'w'))"
    command = [sys.executable, "-c", script, *HOSTILE, "--one={one}", "{many}", "{{steps}}"]
    layout = make_program(tmp_path / "run", command=command, progress=[], one=HOSTILE[1], many=[*HOSTILE, 1.0, True, 3])
    assert zygote.run(layout) == DONE
    seen = json.loads((layout.final / "out/seen.json").read_text())
    assert seen == [*HOSTILE, f"--one={HOSTILE[1]}", *HOSTILE, "1.0", "True", "3", "{steps}"]
    assert not list(tmp_path.rglob("hacked"))
    assert executed(layout) == [STEPS], "without `progress` its end stands for all steps"


def test_metrics_come_from_other_lines_and_from_files(zygote, tmp_path):
    script = """
import json, os
rows = open('out/log.csv', 'w')
print('step,accuracy', file=rows)
for step in range(4):
    print(f'iter {step}: loss {1 / (step + 1)}')
    print({'grad_norm': step + 0.5})
    print(step, 0.25 * step, sep=',', file=rows)
print('eval at 3: 0.125')
with open(os.environ['LVJOBS_PROGRESS'], 'a') as lines:
    print(json.dumps({'step': 3, 'perplexity': 8, 'name': 'x'}), file=lines)
"""
    (tmp_path / "script.py").write_text(script)
    layout = make_program(
        tmp_path / "run",
        command=[sys.executable, str(tmp_path / "script.py")],
        steps=4,
        first_step=0,
        progress=[r"^iter (?P<step>\d+): loss (?P<loss>\S+)"],
        validation=[r"^eval at (?P<step>\d+): (?P<loss>\S+)"],
        metrics=[r"'grad_norm': (?P<grad_norm>[\d.]+)"],
        progress_file="{out}/log.csv",
    )
    assert zygote.run(layout) == DONE
    steps = entries(layout, "step")
    assert [(each["step"], each["loss"]) for each in steps if "loss" in each] == [(n, 1 / n) for n in (1, 2, 3, 4)]
    assert [each["grad_norm"] for each in steps if "grad_norm" in each] == [0.5, 1.5, 2.5, 3.5]
    assert [(each["step"], each["accuracy"]) for each in steps if "accuracy" in each] == [
        (n, (n - 1) / 4) for n in (1, 2, 3, 4)
    ]
    assert [each["perplexity"] for each in steps if "perplexity" in each] == [8]
    assert sum(each.get("steps", 1) for each in steps) == 4
    assert [(each["step"], each["loss"]) for each in entries(layout, "validation")] == [(4, 0.125)]


@pytest.mark.parametrize("kind", ["--named", "--in-place"])
def test_a_run_begins_from_a_checkpoint_that_exists(zygote, tmp_path, undisturbed, kind):
    first = make_program(tmp_path / "first", "--named", steps=20, **NAMED)
    assert zygote.run(first) == DONE
    given = first.final / "out" / "checkpoint-20.json"
    layout = make_program(tmp_path / "second", kind, **KINDS[kind], from_checkpoint=str(given))
    assert zygote.run(layout) == DONE
    assert result(layout) == undisturbed
    assert executed(layout) == list(range(21, STEPS + 1))
    assert sum(each.get("steps", 1) for each in entries(layout, "step")) == 20


def test_a_checkpoint_to_begin_from_must_be_whole(zygote, tmp_path):
    torn = tmp_path / "checkpoint-20.json"
    torn.write_text('{"step": 2')
    layout = make_program(tmp_path / "run", "--named", **NAMED, from_checkpoint=str(torn))
    assert zygote.run(layout) == ERROR
    (error,) = entries(layout, "error")
    assert "cannot begin from" in error["message"]
    assert not published(layout)


def test_output_without_a_step_is_a_sign_of_life(tmp_path, monkeypatch):
    """Policy.hung_seconds counts from the last line of the journal."""
    monkeypatch.setattr(execution, "_ALIVE_SECONDS", 0.0)
    layout = make_program(tmp_path / "run", command=[sys.executable, "-c", "print('x'); print('y')"], progress=[])
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, RunFile.read(layout.config).config, 1, Submission(layout, ""), journal, None)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    execution.run(attempt)
    journal.close()
    assert attempt.done is not None
    assert [each["step"] for each in entries(layout, "alive")][:1] == [0]


def test_a_checkpoint_that_was_being_written_is_searched_for_again_soon(tmp_path, monkeypatch):
    """Each search of a program that saves often may come while it saves, and the usual one a second later as well."""
    monkeypatch.setattr(execution, "_SCAN_SECONDS", 3600.0)
    layout = make_program(tmp_path / "run", "--in-place", "--slow-save=1", f"--hang-at={EVERY}", **IN_PLACE)
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, RunFile.read(layout.config).config, 1, Submission(layout, ""), journal, None)
    given_up = time.monotonic() + 60
    monkeypatch.setattr(attempt, "must_stop", lambda: bool(published(layout)) or time.monotonic() > given_up)
    attempt.reason = REVOKED
    execution.run(attempt)
    journal.close()
    assert time.monotonic() < given_up
    assert published(layout) == [f"000001-{EVERY:08d}"]


@pytest.mark.parametrize("is_stopped", [False, True])
def test_an_activation_that_does_not_end_is_given_up(tmp_path, monkeypatch, is_stopped):
    monkeypatch.setattr(activate, "_SECONDS", 600.0 if is_stopped else 0.5)
    layout = make_program(tmp_path / "run")
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, RunFile.read(layout.config).config, 1, Submission(layout, ""), journal, None)
    if is_stopped:
        seen = []
        monkeypatch.setattr(attempt, "must_stop", lambda: bool(seen) or bool(seen.extend(processes_of(layout))))
    given = (attempt, f"cd {layout.root} && sleep 600 & wait", os.environ, layout.root)
    if is_stopped:
        assert activate.activated(*given) is None
    else:
        with pytest.raises(LvjobsError, match=r"activate failed \(not over within 0.5 s\); correct activate"):
            activate.activated(*given)
    journal.close()
    assert not processes_of(layout)
    assert not (layout.root / "environment").exists()


def test_no_variable_of_an_activated_environment_stays_in_a_file(tmp_path):
    layout = make_program(tmp_path / "run")
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, RunFile.read(layout.config).config, 1, Submission(layout, ""), journal, None)
    given = {"PATH": os.environ["PATH"], "OLD": "1", "PWD": "/mine"}
    found = activate.activated(attempt, "export NEW='a\nb'; unset OLD; cd /", given, layout.root)
    journal.close()
    assert found == {"NEW": "a\nb", "OLD": None}
    assert sorted(path.name for path in layout.root.iterdir()) == ["000001.jsonl", "run.json"]


def test_a_shell_that_was_killed_while_it_activated_is_a_kill(tmp_path):
    layout = make_program(tmp_path / "run")
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, RunFile.read(layout.config).config, 1, Submission(layout, ""), journal, None)
    with pytest.raises(ProgramLost):
        activate.activated(attempt, "kill -KILL $$; true", os.environ, layout.root)
    journal.close()


TWO_FILES = """
import json, pathlib, sys, time
begun = int(sys.argv[1].rpartition('-')[2]) if sys.argv[1:] else 0
for step in range(begun + 1, 5):
    directory = pathlib.Path(f'out/checkpoint-{step}')
    directory.mkdir()
    (directory / 'model.json').write_text(json.dumps(step))
    while step == 3 and not begun:  # a directory that rests for some seconds counts as whole
        time.sleep(0.1)
        (directory / 'model.json').touch()
    (directory / 'optimizer.json').write_text(json.dumps(step))
    print(f'step {step}', flush=True)
    while step == 2 and not begun and not pathlib.Path('../published').exists():
        time.sleep(0.05)
"""


@pytest.mark.parametrize("victim", ["worker", "program"])
def test_a_directory_that_lacks_a_file_at_a_kill_is_not_published(zygote, tmp_path, victim):
    """No file is declared to be the last, and each that is there is whole."""
    (tmp_path / "two_files.py").write_text(TWO_FILES)
    layout = make_program(
        tmp_path / "run",
        command=[sys.executable, str(tmp_path / "two_files.py")],
        resume=["{checkpoint}"],
        checkpoint="{out}/checkpoint-{step}",
        progress=[r"^step (?P<step>\d+)"],
        steps=4,
        every=1,
    )
    pid = zygote.start(layout)
    cut = layout.root / "000001.work/out/checkpoint-3/model.json"
    wait_for(lambda: len(published(layout)) == 2, "the two checkpoints before it")
    (layout.root / "published").touch()
    wait_for(lambda: cut.exists() and cut.stat().st_size, "the first file of a checkpoint")
    (program,) = processes_of(layout)
    os.kill(pid if victim == "worker" else program.pid, signal.SIGKILL)
    zygote.wait(pid)
    assert published(layout) == ["000001-00000001", "000001-00000002"]
    assert zygote.run(layout) == DONE
    assert sorted(path.name for path in (layout.final / "out/checkpoint-4").iterdir()) == [
        "model.json",
        "optimizer.json",
    ]


def test_what_an_older_generation_left_on_the_host_is_ended(zygote, tmp_path):
    """The kernel kills the program with its worker, and not what that started."""
    layout = make_program(tmp_path / "run", "--in-place", *hangs_once(tmp_path, 5), "--children=2", **IN_PLACE)
    pid = zygote.start(layout)
    wait_for_step(layout, 5)
    os.kill(pid, signal.SIGKILL)
    zygote.wait(pid)
    wait_for(lambda: len(processes_of(layout)) == 2, "the program ends, and its children live on")
    assert zygote.run(layout) == DONE
    assert not processes_of(layout)
