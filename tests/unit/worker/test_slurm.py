"""Whole attempts under the environment of a Slurm job, with a scontrol that says what Slurm said. Not a real Slurm."""

import json
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_helpers import Zygote, entries, environment, executed, make_run, submit

CAPTURED = Path(__file__).parents[1] / "captured"


def submitted(directory, **more):
    layout = make_run(directory, **more)
    submit(layout)
    return layout


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def slurm(tmp_path):
    """Variables of an array task's job, and a scontrol that prints `answer` and notes its calls."""

    def make(state, *, restarts=0, preempted=False, partition_mode="REQUEUE", body=""):
        document = json.loads((CAPTURED / "scontrol_job_array_in_grace.json").read_text())
        for job in document["jobs"]:
            job["job_state"] = list(state)
            job["restart_cnt"] = restarts
            job["preempt_time"] = {"set": True, "infinite": False, "number": 1795565557 if preempted else 0}
        (tmp_path / "answer").write_text(json.dumps(document))
        script = tmp_path / "bin" / "scontrol"
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{body}\n'
            f'case "$1" in show) cat {tmp_path}/answer;; -o) echo "PartitionName=low PreemptMode={partition_mode}";; esac\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return {
            "LVJOBS_BACKEND": "slurm",
            "LVJOBS_TOKEN": "abc",
            "SLURM_JOB_ID": "2",
            "SLURM_ARRAY_JOB_ID": "2",
            "SLURM_ARRAY_TASK_ID": "1",
            "SLURM_JOB_START_TIME": int(time.time()),
            "SLURM_JOB_END_TIME": int(time.time()) + 600,
            "PATH": f"{script.parent}:/usr/bin:/bin",
        }

    return make


def calls(tmp_path):
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("sent", "state", "more", "cause", "action"),
    [
        ("SIGTERM", ["RUNNING"], {"preempted": True}, "preempted", "none"),
        ("SIGUSR2", ["RUNNING"], {}, "timeout", "requeued"),
        ("SIGTERM", ["RUNNING"], {"preempted": True, "partition_mode": "CANCEL"}, "preempted", "requeued"),
        ("SIGUSR2", ["CANCELLED", "COMPLETING"], {}, "cancelled", "none"),
        ("SIGTERM", ["PENDING", "COMPLETING"], {"preempted": True, "restarts": 1}, "preempted", "none"),
        ("SIGTERM", ["PENDING"], {"restarts": 1}, "superseded", "none"),
    ],
)
def test_leaving(zygote, slurm, tmp_path, sent, state, more, cause, action):
    layout = submitted(tmp_path / "runs" / "run")
    assert zygote.run(layout, TOY_TERM_AT=5, TOY_SIGNAL=sent, **slurm(state, **more)) == 75
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["action"], leave["step"]) == (cause, action, 5)
    assert [call for call in calls(tmp_path) if "requeue" in call] == (["requeue 2_1"] if action == "requeued" else [])
    assert executed(layout) == [1, 2, 3, 4, 5]
    assert entries(layout, "checkpoint")[-1]["step"] == 5
    assert entries(layout, "start")[0]["job_id"] == "2_1"


def test_a_requeue_that_slurm_refuses(zygote, slurm, tmp_path):
    layout = submitted(tmp_path / "runs" / "run")
    variables = slurm(["RUNNING"], body='[ "$1" = requeue ] && { echo "disabled" >&2; exit 1; }')
    assert zygote.run(layout, TOY_TERM_AT=5, TOY_SIGNAL="SIGUSR2", **variables) == 75
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["action"]) == ("timeout", "none")
    assert "disabled" in leave["detail"]


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGUSR2"])
@pytest.mark.parametrize("fails", ["exit 1", 'case "$*" in *--json*) echo "unrecognized option" >&2; exit 1;; esac'])
def test_a_worker_that_cannot_ask_slurm_names_no_cause_and_requeues_nothing(zygote, slurm, tmp_path, sent, fails):
    layout = submitted(tmp_path / "runs" / "run")
    assert zygote.run(layout, TOY_TERM_AT=5, TOY_SIGNAL=sent, **slurm(["CANCELLED"], body=fails)) == 75
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["action"], leave["step"]) == ("unknown", "none", 5)
    assert not [call for call in calls(tmp_path) if "requeue" in call]


def test_no_phantom_rerun_of_a_finished_or_broken_run(zygote, slurm, tmp_path):
    layout = submitted(tmp_path / "runs" / "run", steps=3)
    assert zygote.run(layout, **slurm(["RUNNING"])) == 0
    assert calls(tmp_path) == ["update jobid=2_1 requeue=0"]
    layout = submitted(tmp_path / "runs" / "broken", params={"fail_at": 2})
    assert zygote.run(layout, **slurm(["RUNNING"])) == 1
    assert calls(tmp_path)[1:] == ["update jobid=2_1 requeue=0"]


def test_the_end_time_is_asked_for_where_the_environment_has_none(zygote, slurm, tmp_path):
    variables = slurm(["RUNNING"])  # the captured end time is far ahead of this test's clock, or behind it
    del variables["SLURM_JOB_END_TIME"]
    answer = json.loads((tmp_path / "answer").read_text())
    for job in answer["jobs"]:
        job["end_time"]["number"] = int(time.time()) - 1
    (tmp_path / "answer").write_text(json.dumps(answer))
    layout = submitted(tmp_path / "runs" / "run")
    assert zygote.run(layout, **variables) == 75
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["action"], leave["step"]) == ("timeout", "requeued", 0)


def test_the_second_term_does_not_kill_the_question(zygote, slurm, tmp_path):
    """GraceTime 0: TERM goes to every process of the step, also while scontrol is asking."""
    layout = submitted(tmp_path / "runs" / "run")
    variables = slurm(
        ["RUNNING"],
        preempted=True,
        body=f"kill -TERM $PPID; kill -TERM $$; kill -USR2 $$; echo lived >> {tmp_path}/lived",
    )
    assert zygote.run(layout, TOY_TERM_AT=5, **variables) == 75
    assert "Slurm says RUNNING" in entries(layout, "leave")[0]["detail"]
    assert (tmp_path / "lived").exists()


CHILDREN = """
import os, signal, subprocess, sys, time
from lvjobs.worker import signals
signals.install()
import torch
from torch.utils.data import DataLoader

class Slow(torch.utils.data.Dataset):
    def __len__(self): return 12
    def __getitem__(self, i):
        time.sleep(0.05)
        return i

def signal_everybody():
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT"):
        os.killpg(0, getattr(signal, name))

if __name__ == "__main__":
    os.setpgid(0, 0)
    seen = []
    for batch in DataLoader(Slow(), batch_size=2, num_workers=2, multiprocessing_context="fork"):
        seen += batch.tolist()
        signal_everybody()
    assert seen == list(range(12)), seen
    assert signals.received() == "SIGTERM"
    with signals.shielded():
        inside = subprocess.Popen(["sleep", "0.5"])
    given = subprocess.Popen(["sleep", "0.5"], preexec_fn=signals.deafen)
    bare = subprocess.Popen(["sleep", "3600"])
    time.sleep(0.1)
    signal_everybody()
    assert (inside.wait(), given.wait(), bare.wait()) == (0, 0, -15)
    loader = iter(DataLoader(Slow(), num_workers=3, multiprocessing_context="fork", persistent_workers=True))
    next(loader)
    signals.end_children()
    time.sleep(0.5)  # until the children's deaths were told
    print("ended", flush=True)
    os._exit(0)
"""


@pytest.mark.torch
def test_children_outlive_the_signals(tmp_path):
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    done = subprocess.run(
        [sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ended" in done.stdout


def test_the_interface_is_light():
    """Importing `Run` must not load torch, nor pydantic: it happens before the signal handlers are in place."""
    code = (
        "import sys; from lvjobs.worker import Run, signals; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.torch
def test_thread_variables_are_set_before_torch_is_loaded(tmp_path):
    layout = submitted(tmp_path / "runs" / "run", task="probe_task:train", threads=2)
    (tmp_path / "probe_task.py").write_text(
        "import os, torch\n"
        "def train(run):\n"
        "    threads = (os.environ['OMP_NUM_THREADS'], torch.get_num_threads(), torch.get_num_interop_threads())\n"
        "    assert threads == ('2', 2, 1), threads\n"
        "    assert torch.are_deterministic_algorithms_enabled()\n"
        "    assert torch.initial_seed() == 7\n"
        "    for step in range(1, run.config.steps + 1):\n"
        "        run.log(step)\n"
        "    run.checkpoint(run.config.steps, {})\n"
    )
    variables = environment(OMP_NUM_THREADS=1)
    variables["PYTHONPATH"] += f":{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-m", "lvjobs.worker", str(layout.root)],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert layout.done.exists()


def test_interrupted_from_the_keyboard(zygote, tmp_path):
    layout = submitted(tmp_path / "runs" / "run")
    assert zygote.run(layout, TOY_TERM_AT=5, TOY_SIGNAL="SIGINT") == 130
    assert entries(layout, "leave")[0]["cause"] == "cancelled"


def test_usage():
    done = subprocess.run(
        [sys.executable, "-m", "lvjobs.worker"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "RUN_DIRECTORY" in done.stderr
