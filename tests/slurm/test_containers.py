"""A program in a container, as a job of a real Slurm: preempted, killed and resumed, watched and ended as outside."""

import json
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from container_images import PROGRAMS, build, make_image
from driving import Study, kill_worker, until

from lvjobs.study.program.container import ContainerConfig
from lvjobs.tasks.image import image_identity

pytestmark = pytest.mark.slurm

STEPS, EVERY = 200, 20
TOML = r"""
command = [{program}, "-n", "{{steps}}", "-c", "{{checkpoint_every}}", "-o", "{{out}}", "-s", "{pause}", "-g", "{gates}"]
resume = ["-r", "{{checkpoint}}"]
checkpoint = "{{out}}/state-{{step}}.bin"
progress = '^step (?P<step>\d+) residual (?P<residual>\S+)'
flops = 4e5
steps = {steps}
checkpoint_every = {every}
container = {{ image = "{image}", engine = "charliecloud", bind = ["{gates}"] }}
"""


class ContainerStudy(Study):
    """A study of heat.c in a container: `program` is the command's first word, `pause` in milliseconds per step."""

    def __init__(self, root, program, image, pause=0):
        super().__init__(root)
        before, _, after = (root / "study.toml").read_text().partition("[train]\n")
        self.gate_program()
        values = {"image": image, "pause": pause, "steps": STEPS, "every": EVERY, "gates": self.program_gates}
        train = TOML.format(program=f'"{program}"', **values)
        (root / "study.toml").write_text(f"{before}[train]{train}{after[after.index('[driver]') :]}")
        (root / "toy_task.py").unlink()

    def last_state(self):
        return (self.files("run") / "final" / "out" / f"state-{STEPS}.bin").read_bytes()

    def programs(self):
        """All processes of the program that work in a run directory."""
        every = psutil.process_iter(["name", "cwd"])
        return [each for each in every if each.info["name"] == "heat" and str(self.root) in (each.info["cwd"] or "")]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("image") / "heat", heat="heat.c")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, image):
    """The last state of a run without lvjobs and without a container."""
    out = tmp_path_factory.mktemp("alone")
    command = [image / "bin" / "heat", "-n", str(STEPS), "-c", str(EVERY), "-o", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (out / f"state-{STEPS}.bin").read_bytes()


def test_a_program_in_a_container_is_preempted_and_killed(tmp_path, lab, image, undisturbed, fault):
    """The program is in the image. It is preempted, its worker is killed, and it ends in the undisturbed state."""
    study = ContainerStudy(tmp_path / "study", "heat", "image")
    shutil.copytree(image, study.root / "image")
    study.gate_program(50, 90)
    study.submit("run")
    claim = study.reach("run", 50)
    (program,) = psutil.Process(claim["pid"]).children()
    assert program.name() == "heat", "ch-run becomes the program"
    spaces = [Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (program.pid, claim["pid"])]
    assert spaces[0] != spaces[1], "it is not in a container"
    lab.preempt(claim["job_id"])
    until(lambda: study.run("run") and len(study.claims("run")) > 1)
    study.open_program(50)
    kill_worker(study.reach("run", 90, generation=2))
    study.open_program(90)
    run = study.until("run", "completed")
    assert run["attempts"] == 3
    known = image_identity(ContainerConfig(image="image", engine="charliecloud"), study.root)
    assert [line.get("image") for line in study.journal("run") if line["kind"] == "software"] == [known] * 3
    assert study.last_state() == undisturbed
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    until(lambda: not study.programs())
    assert [path.name for path in (study.root / "image" / "bin").iterdir()] == ["heat"]
    assert list((study.root / "image" / "tmp").iterdir()) == [], "the image changed"
    fault("program_in_container", study, times=2, same_bits=True)


def test_a_submitted_program_runs_in_a_container(tmp_path, lab, undisturbed):
    """The program is among the submitted files, to which the working directory has links. The path has a space."""
    study = ContainerStudy(tmp_path / "my study", "./heat", make_image(tmp_path / "empty"))
    build(PROGRAMS / "heat.c", study.root / "heat")
    study.submit("run")
    study.until("run", "completed")
    assert study.last_state() == undisturbed


def test_the_doctor_looks_into_the_container_in_a_job(tmp_path, lab):
    make_image(tmp_path / "study" / "image", true="true.c")
    study = ContainerStudy(tmp_path / "study", "heat", "image")
    for _ in range(3):  # a machine that stalls is taken for a Slurm that does not answer
        out, err, code = study.outcome(study.start("doctor", "--job", "--json"), "doctor", "--job", "--json")
        if "does not answer" not in out:
            break
    assert code == 0, out + err
    found = {each["subject"]: each for each in json.loads(out)["findings"]}
    assert found["container"]["level"] == "fine"
    assert f"{study.root}/image, started by " in found["container"]["what"]
    assert found["node: container"]["level"] == "fine"
    assert "image starts, and has no Python" in found["node: container"]["what"]
    assert f"{study.root}/image" in found["node: files"]["what"]


def test_a_cancelled_run_leaves_no_process_of_its_container(tmp_path, lab, image):
    study = ContainerStudy(tmp_path / "study", "heat", image)
    study.gate_program(5)
    study.submit("run")
    study.reach("run", 5)
    assert study.programs()
    study.type("cancel", "run")
    study.until("run", "cancelled")
    until(lambda: not study.programs())
