"""`lvjobs doctor` on a real Slurm: what it finds in a study that is well, in one that is not, and on a node."""

import json
import re
import time

import pytest
from driving import Study, until

pytestmark = pytest.mark.slurm


STALLED = ("does not answer", "timed out")


def examine(study: Study, *arguments, code=0, is_silent=False):
    """The findings by subject, the worst of each; what was said on the way. Examined again where a machine stalls."""
    for _ in range(3):
        process = study.start("doctor", "--json", *arguments)
        out, err = process.communicate(timeout=300)
        if is_silent or not any(words in out for words in STALLED):
            break
    assert process.returncode == code, out + err
    order = ("fine", "note", "error")
    findings = sorted(json.loads(out)["findings"], key=lambda finding: order.index(finding["level"]))
    return {finding["subject"]: finding for finding in findings}, err


def test_a_study_that_is_well_and_what_its_node_is_like(study: Study, lab):
    declared = study.root / "study.toml"
    declared.write_text(declared.read_text().replace("job = false", "job = true"))
    found, err = examine(study, "--job")
    assert {subject: each["what"] for subject, each in found.items() if each["level"] == "error"} == {}
    for subject in ("Slurm", "accounting", "account", "partition", "QOS", "size", "time limit", "sbatch", "driver"):
        assert found[subject]["level"] == "fine", found[subject]
    assert "low requeues a preempted job (PreemptMode=REQUEUE, GraceTime=60)" in found["preemption"]["what"]
    assert "test job" in err
    assert "on n" in found["test job"]["what"]
    for subject in ("node: Python", "node: files", "node: scratch", "node: Slurm"):
        assert found[subject]["level"] == "fine", found[subject]
    assert found["node: GPUs"]["level"] == "note", "a lab's are pretended"
    assert "CUDA_VISIBLE_DEVICES=0" in found["node: GPUs"]["what"]
    until(lambda: lab.run("squeue", "-h", "-o", "%i") == "")
    assert not (study.root / ".lvjobs").exists(), "it is no run, and leaves nothing"

    (job_id,) = re.findall(r"test job (\d+): submitted", err)
    # Late, as ever; cancelled where the machine stalled as the job ended.
    ended = ("COMPLETED", "CANCELLED")
    until(lambda: lab.run("sacct", "-X", "-n", "-P", "-j", job_id, "-o", "State").startswith(ended))


def test_a_wrong_account_and_partition_and_too_long_a_limit_are_errors_with_remedies(study: Study, lab):
    found, _ = examine(study, "--account", "nobody", "--partition", "lwo", code=1)
    assert {subject for subject, each in found.items() if each["level"] == "error"} == {"account", "partition"}
    assert 'account = "lab"' in found["account"]["remedy"]
    assert found["partition"]["what"].startswith("there is no 'lwo' on cluster")
    assert 'partition = "low"' in found["partition"]["remedy"]
    found, _ = examine(study, "--time-limit", "48h", "--qos", "gold", code=1)
    assert {subject for subject, each in found.items() if each["level"] == "error"} == {"QOS", "time limit"}
    assert 'time_limit = "36:00:00"' in found["time limit"]["remedy"]
    said = study.type("submit", "run", "--account", "nobody", code=2)
    assert "Invalid account" in said, "sbatch agrees"


def test_a_test_job_that_cannot_start_is_cancelled(study: Study, lab):
    lab.run("sbatch", "-N4", "--exclusive", "-t", "5", "-o", "/dev/null", "--wrap=sleep 300")
    until(lambda: "RUNNING" in lab.run("squeue", "-h", "-o", "%T"))
    for _ in range(3):
        found, err = examine(study, "--job", "--timeout", "20")
        if "(Resources)" in err + found["test job"]["what"]:
            break  # else the machine stalled for as long as the job was waited for
    assert found["test job"]["level"] == "note"
    assert "did not begin in time" in found["test job"]["what"]
    assert "(Resources)" in err + found["test job"]["what"]
    assert "doctor." not in lab.run("squeue", "-h", "-o", "%j")


def test_a_silent_controller_is_one_error_and_is_not_waited_for(study: Study, impatient):
    impatient.freeze()
    took = []
    while not took or (min(took) > 30 and len(took) < 3):  # a machine may stall for one of them
        begun = time.monotonic()
        found, _ = examine(study, code=1, is_silent=True)
        took.append(time.monotonic() - begun)
    assert min(took) < 30
    assert {subject for subject, each in found.items() if each["level"] == "error"} == {"Slurm"}
    assert "does not answer" in found["Slurm"]["what"]
