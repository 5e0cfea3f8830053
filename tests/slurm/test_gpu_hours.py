"""The limit of GPU-hours on real Slurm: what does not fit does not start, and what started stops in time."""

import json
import sys

import pytest
from driving import Study, until
from driving_programs import ProgramStudy

pytestmark = pytest.mark.slurm

SMALL = ("--steps", "20")
SECONDS = 60


def hours(study):
    return json.loads(study.type("budget", "--json"))["gpu_hours"]


def held(lab, study):
    """The GPU-seconds of the study's jobs, by Slurm's accounting."""
    jobs = ",".join(sorted({job for job, _ in study.known_jobs()}))
    text = lab.run("sacct", "-X", "-D", "-n", "-P", "-j", jobs, "-o", "ElapsedRaw,AllocTRES")
    total = 0
    for line in text.splitlines():
        elapsed, _, resources = line.partition("|")
        gpus = [part.partition("=")[2] for part in resources.split(",") if part.startswith("gres/gpu=")]
        total += int(elapsed) * int(gpus[0] if gpus else 0)
    return total


def test_twenty_at_once_into_gpu_hours_for_seven(study: Study, lab):
    """A job of this profile gets 1 GPU for 60 minutes."""
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # none may complete, and free what it did not use
    study.type("budget", "set", "--gpu-hours", "7.5")

    def words(number):
        return "submit", "run", "--name", f"run{number}", *SMALL

    commands = [study.start(*words(number)) for number in range(20)]
    ends = [study.outcome(process, *words(number)) for number, process in enumerate(commands)]
    assert sorted(code for _, _, code in ends) == [0] * 7 + [2] * 13, ends
    for _, err, code in ends:
        assert code == 0 or "needs 1 GPU-hours" in err
        assert code == 0 or "0.5 more than the 0.5 available (limit 7.5); nothing was submitted" in err
    assert hours(study) == {"limit": 7.5, "spent": 0.0, "reserved": 7.0, "free": 0.5}
    assert "GPU-hours" in study.type("budget")
    lab.run("scontrol", "update", "partitionname=low", "state=up")
    until(lambda: {run["state"] for run in study.runs().values()} == {"completed"}, 600)
    assert len(study.runs()) == len(list((study.root / "checkpoints").iterdir())) == 7

    def is_accounted():
        study.type("resume")
        return abs(3600 * hours(study)["spent"] - held(lab, study)) <= 7  # a second of rounding for each

    until(is_accounted, 300)
    assert hours(study)["reserved"] == 0


def test_a_program_whose_time_limit_was_too_low_is_held_at_the_limit(tmp_path, lab):
    """It declares no FLOPs, asks for one minute of one GPU, which is all there is, and needs longer."""
    words = ["--steps={steps}", "--every={checkpoint_every}", "--out={out}", "--seconds-per-step=0.25", "--in-place"]
    keys = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"], "every": 10, "steps": 400}
    study = ProgramStudy(tmp_path / "study", [sys.executable, "counter.py", *words], **keys)
    path = study.root / "study.toml"
    text = path.read_text().replace("flops = 1000000.0\n", "")
    path.write_text(text)
    assert "gpu_hours = 100 under [budget]" in study.type("submit", "run", "--name", "run", code=2)
    path.write_text(f"{text}\n[budget]\ngpu_hours = {SECONDS / 3600}\n")

    study.submit("run", "--time-limit", "1m")
    study.reach("run", 20)
    until(lambda: any(line["kind"] == "leave" for line in study.journal("run")), 300)  # nobody looks meanwhile
    leave = study.journal("run")[-1]
    assert (leave["cause"], leave["action"]) == ("exhausted", "none")
    run = study.until("run", "held")
    assert "GPU-hours more than is available (limit 0.01667)" in run["reason"]
    assert 0 < held(lab, study) <= SECONDS + 60, "a minute of its GPU past the limit, at most"
    assert run["checkpoint_step"] >= leave["step"] - 10, "it was not stopped before its next checkpoint"

    study.type("budget", "set", "--gpu-hours", "2", "--because", "the program is slower than was thought")
    run = study.until("run", "completed")
    assert json.loads(study.result())["step"] == 400
    assert run["replayed_steps"] <= 20
