"""Programs that know nothing of lvjobs, as jobs of a real Slurm: preempted, at their time limit, robbed of their node."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from driving import until
from driving_programs import EVERY, PROGRAMS, STEPS, ProgramStudy

from lvjobs.lab import LabConfig

pytestmark = pytest.mark.slurm

WORDS = ["--steps={steps}", "--every={checkpoint_every}", "--out={out}", "--seconds-per-step=0.03"]


def gates(directory):
    """The directory of the program's gates; see Study.gate_program."""
    return directory / "study" / "gates" / "program"


@pytest.fixture
def counter(tmp_path):
    def make(*words, **keys):
        own = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"], **keys}
        command = [sys.executable, "counter.py", *WORDS, "--in-place", f"--gates={gates(tmp_path)}", *words]
        return ProgramStudy(tmp_path / "study", command, **own)

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The program's result without lvjobs."""
    out = tmp_path_factory.mktemp("alone")
    command = [sys.executable, PROGRAMS / "counter.py", f"--steps={STEPS}", f"--every={EVERY}", f"--out={out}"]
    subprocess.run([*command, "--in-place"], check=True, stdout=subprocess.DEVNULL)
    return (out / "result.json").read_bytes()


@pytest.mark.parametrize("kind", ["requeue", "cancel", "grace_0"])
def test_a_deaf_program_is_preempted(kind, counter, lab_for, lab_configs, undisturbed, fault):
    """Slurm on the lab signals every process of a job, so SIGTERM ends the program: it resumes from its checkpoint."""
    lab, study = lab_for(lab_configs[kind]), counter()
    study.gate_program(50)
    study.submit("run")
    with study.waiting(50) as claim:
        lab.preempt(claim["job_id"])
    run = study.until("run", "completed")
    assert run["attempts"] == 2
    assert study.result() == undisturbed
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    assert not study.processes()
    fault("program_preempted", study, same_bits=True)


def test_a_program_that_saves_at_sigterm_loses_no_step(counter, lab, undisturbed):
    study = counter("--trap=TERM:save", stop="TERM", checkpoint_every=1000, every=1000)
    study.gate_program(50)
    study.submit("run")
    with study.waiting(50) as claim:
        lab.preempt(claim["job_id"])
    run = study.until("run", "completed")
    assert run["attempts"] == 2
    assert 50 <= study.saved()[0] < STEPS
    assert run["executed_steps"] <= STEPS + 2, "the label of a checkpoint without a step in its name may be one too low"
    assert {key: json.loads(study.result())[key] for key in ("step", "weight")} == {
        key: json.loads(undisturbed)[key] for key in ("step", "weight")
    }


def test_the_time_limit_ends_a_program_after_its_next_checkpoint(counter, lab, fault):
    """SIGUSR2 announces the limit; the program does not get it, and trains on until it has saved."""
    study = counter("--seconds-per-step=0.2", steps=400, checkpoint_every=10)
    study.submit("run", "--time-limit", "1m")
    run = study.until("run", "completed")
    leaves = [line for line in study.journal("run") if line["kind"] == "leave"]
    assert {line["cause"] for line in leaves} == {"timeout"}
    assert run["attempts"] == len(leaves) + 1
    assert run["replayed_steps"] <= 10 * len(leaves)
    fault("program_time_limit", study, times=len(leaves))


def test_a_lost_node_ends_in_another_attempt_and_no_program_stays(counter, lab_for, undisturbed, fault):
    lab, study = (
        lab_for(LabConfig(accounting=True, hold=6, grace=10, kill_wait=10, message_timeout=60, nodes=2)),
        counter(),
    )
    study.gate_program(50)
    study.submit("run")
    with study.waiting(50) as claim:
        node = lab.run("squeue", "-h", "-j", claim["job_id"], "-o", "%N").strip()
        lab.fail(node)
    run = study.until("run", "completed")
    lab.restore(node)
    assert study.result() == undisturbed
    assert run["attempts"] == len(study.claims("run")) >= 2
    until(lambda: not study.processes())
    fault("program_node_lost", study, same_bits=True)


def test_a_program_runs_in_its_own_environment_and_its_job_says_what_is_in_there(tmp_path, lab):
    keys = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"]}
    study = ProgramStudy(
        tmp_path / "study", ["python", "counter.py", *WORDS, "--in-place", f"--gates={gates(tmp_path)}"], **keys
    )
    venv = study.root / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "torch-2.4.0.dist-info").mkdir()
    study.gate_program(50)
    study.submit("run", "--set", "resources.activate=source venv/bin/activate && export MINE=1")
    with study.waiting(50) as claim:
        (program,) = study.processes()
        environment = program.environ()
        assert program.cmdline()[0] == "python"
        assert (environment["VIRTUAL_ENV"], environment["MINE"]) == (str(venv), "1")
        assert not [name for name in environment if name.startswith(("SLURM_", "PYTHONPATH"))]
        (site / "torch-2.4.0.dist-info").rename(site / "torch-2.5.1.dist-info")
        lab.preempt(claim["job_id"])
    study.until("run", "completed")
    line = "attempt 2 ran with other packages than attempt 1: torch 2.4.0 -> 2.5.1"
    assert line in " ".join(study.type("why", "run").split())


def test_a_cancelled_run_leaves_no_process(counter, lab):
    study = counter("--children=2", "--trap=TERM:ignore")
    study.gate_program(10)
    study.submit("run")
    study.reach("run", 10)
    assert len(study.processes()) == 3
    study.type("cancel", "run")
    study.until("run", "cancelled")
    until(lambda: not study.processes())


def test_a_program_in_c_is_preempted_and_killed(tmp_path, lab, fault):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    tmp_path.joinpath("bin").mkdir()
    heat = tmp_path / "bin" / "heat"
    subprocess.run(["cc", "-O1", "-o", heat, PROGRAMS / "heat.c", "-lm"], check=True)
    subprocess.run(
        [heat, "-n", str(STEPS), "-c", str(EVERY), "-o", tmp_path / "bin"], check=True, stdout=subprocess.DEVNULL
    )
    command = ["./heat", "-n", "{steps}", "-c", "{checkpoint_every}", "-o", "{out}", "-g", str(gates(tmp_path))]
    keys = {"checkpoint": "{out}/state-{step}.bin", "resume": ["-r", "{checkpoint}"]}
    study = ProgramStudy(tmp_path / "study", command, **keys)
    shutil.copy(heat, study.root)
    study.gate_program(50, 90)
    study.submit("run")
    with study.waiting(50) as claim:
        lab.preempt(claim["job_id"])
    with study.waiting(90, generation=2) as claim:
        os.kill(claim["pid"], signal.SIGKILL)
    run = study.until("run", "completed")
    assert run["attempts"] == 3
    final = f"state-{STEPS}.bin"
    assert (study.files("run") / "final" / "out" / final).read_bytes() == (tmp_path / "bin" / final).read_bytes()
    fault("program_killed", study, times=2, same_bits=True)
