"""`lvjobs submit run -- PROGRAM`: what is prepared, and what is refused in one line before anything is written."""

import json
import os
import sys

import pytest

import lvjobs
from lvjobs.errors import UsageError

PROGRESS = r"^step (?P<step>\d+)"
PROGRAM = ("--", sys.executable, "train.py", "--steps={steps}", "--out", "{out}")


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("print('step 1')\n")
    monkeypatch.chdir(tmp_path)
    torchrun = tmp_path / "bin" / "torchrun"
    torchrun.parent.mkdir()
    torchrun.write_text("#!/bin/sh\n")
    torchrun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{torchrun.parent}:{os.environ['PATH']}")
    return tmp_path


def dry_run(typed, *words):
    code, out, err = typed("submit", "run", "--dry-run", "--json", *words)
    assert code == 0, err
    return json.loads(out)


def test_a_program_is_prepared_as_any_run(typed, study):
    found = dry_run(typed, "--steps", "100", "--checkpoint-every", "10", "--flops", "1e9", *PROGRAM)
    assert "lvjobs.worker" in found["script"]
    assert "train-s0-" in found["script"], "it has the name of its script"
    (stage,) = found["estimate"]["stages"]
    assert stage["steps"] == 100
    assert not (study / "runs.db").exists() or not list((study / "checkpoints").glob("*"))


def test_a_program_in_a_container_is_prepared_without_looking_for_it_here(typed, study):
    (study / "image").mkdir()
    words = ("--flops", "1e9", "--container", "image", "--engine", "charliecloud", "--", "no-such-program")
    assert "lvjobs.worker" in dry_run(typed, *words)["script"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (PROGRAM, "the FLOPs of a step are unknown; nothing was submitted: add flops = 6e9"),
        (("--flops", "1e9", "--"), "no program follows --"),
        (("--flops", "1e9"), "--flops is for programs: write the program at the end, after --"),
        (("--from-checkpoint", "x"), "--from-checkpoint is for programs"),
        (("--flops", "1e9", "--", "no-such-program"), "no-such-program is not on PATH; nothing was submitted"),
        (("--flops", "1e9", "--", "./gone.sh"), "gone.sh does not exist; nothing was submitted"),
        (("--flops", "1e9", "--", "./train.py"), "train.py is not executable; nothing was submitted"),
        (("--flops", "1e9", "--progress", "step", *PROGRAM), "has no step; name the group of its number"),
        (("--flops", "1e9", "--checkpoint", "/abs/{step}", *PROGRAM), "is outside of {out}"),
        (("--flops", "1e9", "--set", "lr=1", *PROGRAM), "nothing uses the key 'lr'"),
        (("--flops", "1e9", *PROGRAM, "{lr}"), "command has the unknown placeholder {lr}"),
        (
            ("--flops", "1e9", "--set", "resources.processes=2", *PROGRAM),
            'launch = "once" leaves processes to the program',
        ),
        (("--flops", "1e9", "--set", "launch=torchrun", *PROGRAM), "is no script; begin command with the script"),
        (("--flops", "1e9", "--set", "launch=torchrun", "--", "gone.py"), "torchrun finds no script"),
        (("--flops", "1e9", "--set", "resources.nodes=2", *PROGRAM), "nodes = 2: profile local has one node"),
        (("--flops", "1e9", "--preset", "keras", *PROGRAM), "'huggingface'"),
        (
            ("--flops", "1e9", "--checkpoint", "{out}/a", "--from-checkpoint", "gone", *PROGRAM),
            "gone does not exist; nothing was submitted",
        ),
        (("--flops", "1e9", "--set", "link=['gone']", *PROGRAM), "link"),
        (("--container", "x"), "a container needs an image and an engine; add --engine charliecloud"),
        (("--flops", "1e9", "--engine", "enroot", *PROGRAM), "add --container IMAGE"),
        (("--container", "x", "--engine", "enroot"), "--container is for programs"),
        (
            ("--flops", "1e9", "--container", "x", "--engine", "docker", *PROGRAM),
            "'docker' is not an engine; write one",
        ),
        (("--flops", "1e9", "--container", "x", "--engine", "pyxis", *PROGRAM), 'write engine = "enroot"'),
        (("--flops", "1e9", "--container", "gone", "--engine", "enroot", *PROGRAM), "gone does not exist; correct"),
        (("--flops", "1e9", "--container", "train.py", "--engine", "enroot", *PROGRAM), "is no image that enroot runs"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(typed, study, words, said):
    code, out, err = typed("submit", "run", *words)
    assert code == 2, out
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (study / "checkpoints").exists() or not list((study / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("words", "processes"),
    [
        (("launch=process", "resources.processes=3"), "3"),
        (("launch=torchrun", "resources.gpus=4"), "4"),
        (("launch=torchrun", "resources.gpus=4", "resources.processes=2"), "2"),
        (("launch=process", "resources.gpus=0"), None),
        (("launch=node", "resources.gpus=4"), None),
        (("resources.gpus=4",), None),
    ],
)
def test_a_job_says_how_many_processes_its_nodes_start(typed, study, words, processes):
    options = [word for pair in words for word in ("--set", pair)]
    program = ("--", "train.py") if "launch=torchrun" in words else PROGRAM
    script = dry_run(typed, "--flops", "1e9", "--profile", "generic", *options, *program)["script"]
    lines = [line for line in script.splitlines() if "LVJOBS_PROCESSES" in line]
    assert lines == ([f"export LVJOBS_PROCESSES={processes}"] if processes else [])
    assert "#SBATCH --nodes=1\n#SBATCH --ntasks=1\n#SBATCH --cpus" in script
    assert "LVJOBS_NODES" not in script


NODES = ("--flops", "1e9", "--account", "X", "--set", "launch=process", "--set", "resources.nodes=3")


@pytest.mark.parametrize(("profile", "gpus"), [("csd3-ampere", "--gres=gpu:4"), ("isambard-ai", "--gpus-per-node=4")])
def test_a_job_on_several_nodes_has_one_process_of_lvjobs_on_each(typed, study, profile, gpus):
    words = (*NODES, "--set", "resources.gpus=4", "--profile", profile, *PROGRAM)
    script = dry_run(typed, *words)["script"]
    assert "#SBATCH --nodes=3\n#SBATCH --ntasks=3\n#SBATCH --ntasks-per-node=1\n" in script
    assert f"#SBATCH {gpus}\n" in script
    assert "export LVJOBS_NODES=3\n" in script
    assert "export LVJOBS_PROCESSES=4\n" in script
    assert 'export LVJOBS_EXECUTION="$SLURM_JOB_ID.$(date +%s%N)"' in script
    assert "srun --nodes=3 --ntasks-per-node=1 --ntasks=3 " in script


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("launch=once",), 'nodes = 3, and launch = "once" starts the program on the first node alone'),
        (("resources.pack=2",), "nodes = 3 and pack = 2: a run on several nodes cannot share its job"),
        (("launch=node", "resources.processes=2"), 'processes = 2, and launch = "node" leaves processes'),
    ],
)
def test_what_cannot_run_on_several_nodes_is_refused_in_one_line(typed, study, words, said):
    options = [word for pair in words for word in ("--set", pair)]
    code, out, err = typed("submit", "run", *NODES, "--profile", "csd3-ampere", *options, *PROGRAM)
    assert code == 2, out
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_directory_that_is_too_large_is_refused_with_its_largest_files(typed, study):
    (study / "weights.bin").write_bytes(bytes(11_000_000))
    code, _, err = typed("submit", "run", "--flops", "1e9", *PROGRAM)
    assert code == 2
    assert "weights.bin" in err
    assert "link = [" in err
    assert len(err.strip().splitlines()) == 1


def test_the_api_takes_a_program_as_a_setting(study):
    found = lvjobs.Study.open(study, new=True)
    settings = {"command": [sys.executable, "train.py", "{steps}"], "flops": 1e9, "steps": 7, "progress": PROGRESS}
    assert "train-s0-" in found.preview(settings).script
    with pytest.raises(UsageError, match="unknown placeholder"):
        found.preview({**settings, "command": ["python", "{nothing}"]})
