"""Programs on two nodes of a real Slurm: they lose a rank, a launcher, an agent, a node, and train again each time."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from container_images import make_image
from driving import TESTS, until, wait_until_saved
from driving_programs import ProgramStudy

from lvjobs.lab import LabConfig

pytestmark = pytest.mark.slurm

STEPS, EVERY = 100, 10
INFRASTRUCTURE = ("node_fail", "preempted")
"""The worker on the other node gets SIGTERM: a pass that comes before its closing line takes that for a preemption."""

ARGUMENTS = ["--steps={steps}", "--every={checkpoint_every}", "--out={out}"]


@pytest.fixture
def two_nodes(lab_for):
    return lab_for(LabConfig(accounting=True, hold=6, grace=10, kill_wait=5, message_timeout=60, nodes=2))


def make_study(root, command, *, processes=1, program="ranks.py", **keys):
    own = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"], "every": EVERY, **keys}
    study = ProgramStudy(root, command, **{"steps": STEPS, "launch": "process", **own})
    text = (study.root / "study.toml").read_text()
    wanted = f"[resources]\nnodes = 2\nprocesses = {processes}\n"
    (study.root / "study.toml").write_text(text.replace("[resources]\n", wanted, 1))
    shutil.copy(TESTS / "programs" / program, study.root)
    return study


@pytest.fixture
def ranks(tmp_path, two_nodes):
    def make(*words, **keys):
        """Make a study of ranks that wait at its gates."""
        root = tmp_path / "study"
        own = [f"--gates={root}/gates/program", *words]
        return make_study(root, [sys.executable, "ranks.py", *ARGUMENTS, *own], **keys)

    return make


@pytest.fixture(scope="module")
def undisturbed():
    """The result of two ranks without lvjobs."""
    word, weight = [0, 1], 1.0
    for _ in range(STEPS):
        word = [(each * 6364136223846793005 + 1442695040888963407) % 2**64 for each in word]
        weight -= 0.1 * (weight + sum(each / 2**64 - 0.5 for each in word) / 2)
    return {"step": STEPS, "weight": weight, "ranks": 2}


def place_of(process):
    """Return the rank, by a variable of its environment; None for another process."""
    with suppress(psutil.Error, OSError):
        return process.environ().get("RANK")
    return None


def rank(study, number):
    return until(lambda: next((each for each in study.processes() if place_of(each) == str(number)), None))


def agent(study):
    """Return the process of lvjobs on the second node."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words, environ = process.cmdline(), process.environ()
            is_worker = words[1:3] == ["-m", "lvjobs.worker"] and words[-1].startswith(str(study.root))
            if is_worker and environ.get("SLURM_NODEID") == "1":
                return process
    raise AssertionError("there is no agent")


def begins_again(study, generation, step, gate):
    """Make passes until this generation is there; open the gate of the one before; wait for the step; return the claim."""
    until(lambda: study.run("run") and len(study.claims("run")) >= generation)
    study.open_program(gate)
    return study.reach("run", step, generation=generation)


def test_a_rank_an_agent_a_node_and_a_worker_are_lost_one_after_another(ranks, two_nodes, undisturbed):
    lab, study = two_nodes, ranks()
    study.gate_program(15, 30, 45, 60)
    study.submit("run")
    claim = study.reach("run", 15)
    script = lab.run("scontrol", "write", "batch_script", claim["job_id"], "-")
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks=2\n#SBATCH --ntasks-per-node=1\n" in script
    rank(study, 1).kill()
    begins_again(study, 2, 30, gate=15)
    assert {"rank": 1, "status": -signal.SIGKILL}.items() <= study.journal("run", 1)[-1].items()
    assert study.run("run")["cause"] == "killed"

    agent(study).kill()
    claim = begins_again(study, 3, 45, gate=30)
    assert study.run("run")["cause"] == "killed"
    assert lab.run("squeue", "-h", "-j", claim["job_id"], "-o", "%N").strip() == "n[1-2]"

    lab.fail("n2")
    until(lambda: study.run("run")["state"] == "interrupted")
    assert study.run("run")["cause"] in INFRASTRUCTURE
    lab.restore("n2")
    claim = begins_again(study, 4, 60, gate=45)

    os.kill(claim["pid"], signal.SIGKILL)
    begins_again(study, 5, 75, gate=60)
    run = study.until("run", "completed")
    assert json.loads(study.result()) == undisturbed
    assert run["attempts"] == len(study.claims("run")) == 5
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    assert not [line for line in study.journal("run") if line["kind"] == "error"]
    until(lambda: not study.processes())


def test_torchrun_on_two_nodes_loses_a_rank_and_a_launcher(tmp_path, two_nodes, monkeypatch):
    """The snapshot is torch's, in place; the result is that of two ranks without lvjobs, bit for bit."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    options = ["--save_every={checkpoint_every}", "--snapshot_path={out}/snapshot.pt"]
    root = tmp_path / "study"
    options.append(f"--gates={root}/gates/program")
    study = make_study(
        root,
        ["snapshot.py", "--epochs={steps}", *options],
        program="snapshot.py",
        launch="torchrun",
        steps=40,
        resume=[],
        checkpoint="{out}/snapshot.pt",
        progress=r"^epoch (?P<step>\d+) loss (?P<loss>\S+)",
    )
    study.gate_program(12, 22)
    study.submit("run")
    study.reach("run", 12)
    rank(study, 1).kill()
    begins_again(study, 2, 22, gate=12)
    launchers = [each for each in study.processes() if any(word.endswith("/torchrun") for word in each.cmdline())]
    assert len(launchers) == 2
    launchers[-1].kill()
    begins_again(study, 3, 23, gate=22)
    run = study.until("run", "completed")
    assert run["attempts"] == 3
    assert not [line for line in study.journal("run") if line["kind"] == "error"]
    alone = tmp_path / "alone.pt"
    words = [f"--epochs={run['steps']}", "--save_every=10", f"--snapshot_path={alone}"]
    launch = [Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, TESTS / "programs" / "snapshot.py", *words], check=True, stdout=subprocess.DEVNULL)
    (final,) = (study.files("run") / "final" / "out").glob("snapshot.pt")
    found, wanted = (torch.load(path, weights_only=True) for path in (final, alone))
    assert found["epoch"] == wanted["epoch"] == 40
    assert all(torch.equal(found["model"][name], wanted["model"][name]) for name in wanted["model"])
    assert all(map(torch.equal, found["random"], wanted["random"]))
    until(lambda: not study.processes())


def test_an_error_of_the_code_on_the_other_node_holds_the_run(ranks, two_nodes):
    study = ranks("--raise-at=15")
    study.submit("run")
    run = study.until("run", "held")
    assert run["cause"] == "code_error"
    assert "ValueError: step 15 has failed" in run["reason"]
    assert run["attempts"] == 1


def test_a_run_on_two_nodes_survives_the_loss_of_slurmctld_and_a_preemption(ranks, two_nodes, undisturbed):
    lab, study = two_nodes, ranks()
    study.gate_program(5, 25)
    study.submit("run")
    claim = study.reach("run", 5)
    wait_until_saved(lab, claim["job_id"])
    lab.kill_controller()
    study.open_program(5)
    study.reach("run", 25)
    lab.start_controller()
    until(lambda: study.run("run")["state"] == "running")
    assert len(study.claims("run")) == 1
    lab.preempt(claim["job_id"])
    begins_again(study, 2, 26, gate=25)
    run = study.until("run", "completed")
    assert json.loads(study.result()) == undisturbed
    assert run["attempts"] == len(study.claims("run")) == 2
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    assert run["cause"] == "completed"
    until(lambda: not study.processes())


def test_a_rehearsal_kills_the_ranks_and_agents_of_two_nodes(tmp_path):
    """It brings up a private Slurm of its own, and ends it."""
    command = [sys.executable, "ranks.py", *ARGUMENTS, "--seconds-per-step=0.1"]
    study = make_study(tmp_path / "study", command, steps=2000, every=200)
    found = json.loads(study.type("rehearse", "--json", "--minutes=15", timeout=1400))
    assert (found["verdict"], found["breaches"]) == ("bitwise", []), found
    assert {"agent killed (SIGKILL)", "rank killed (SIGKILL)", "node lost", "preempted"} <= found["met"].keys()


def left_alone(program, out, *words, size):
    """Run this number of ranks of a program in C without lvjobs."""
    with socket.socket() as taken:  # its port is rank 0's, which may bind an address that is bound but not listened at
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        meeting = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": taken.getsockname()[1]}
        environment = os.environ | {name: str(value) for name, value in meeting.items()}
        started = [
            subprocess.Popen(
                [program, *words, "-o", out], env=environment | {"RANK": str(rank)}, stdout=subprocess.DEVNULL
            )
            for rank in range(size)
        ]
        assert [each.wait() for each in started] == [0] * size


def test_ranks_in_containers_on_two_nodes_lose_one_and_resume(tmp_path, two_nodes, fault):
    """Each of four ranks is in a container of its own. The image has one static program, and does not change."""
    image = make_image(tmp_path / "image", ranks="ranks.c")
    left_alone(image / "bin" / "ranks", tmp_path, "-n", str(STEPS), "-c", str(EVERY), size=4)
    root = tmp_path / "study"
    gates = str(root / "gates" / "program")
    study = make_study(
        root,
        ["ranks", "-n", "{steps}", "-c", "{checkpoint_every}", "-o", "{out}", "-g", gates],
        processes=2,
        resume=["-r", "{checkpoint}"],
        checkpoint="{out}/state-{step}.bin",
        **{"container.image": str(image), "container.engine": "charliecloud", "container.bind": [gates]},
    )
    study.gate_program(15)
    study.submit("run")
    study.reach("run", 15)
    inside = [each for each in study.processes() if each.name() == "ranks"]
    assert sorted(map(place_of, inside)) == ["0", "1", "2", "3"]
    spaces = {Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (os.getpid(), *(each.pid for each in inside))}
    assert len(spaces) == 5, "two of them are not in containers of their own"
    rank(study, 3).kill()
    begins_again(study, 2, 30, gate=15)
    assert {"rank": 3, "status": -signal.SIGKILL}.items() <= study.journal("run", 1)[-1].items()
    run = study.until("run", "completed", "held")
    assert (run["state"], run["attempts"]) == ("completed", 2), study.story("run")
    final = f"state-{STEPS}.bin"
    assert (study.files("run") / "final" / "out" / final).read_bytes() == (tmp_path / final).read_bytes()
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    until(lambda: not study.processes())
    assert [path.name for path in (image / "bin").iterdir()] == ["ranks"]
    assert list((image / "tmp").iterdir()) == []
    fault("program_in_containers", study, same_bits=True)
