"""Jobs that live in other states than pending and running."""

import getpass
import time

import pytest
from driving import Study, until

pytestmark = pytest.mark.slurm

BOUND = 40


@pytest.fixture
def gated(study: Study):
    """A study whose run waits at a gate; hung after BOUND seconds."""
    path = study.root / "study.toml"
    path.write_text(path.read_text().replace("[policy]\n", f"[policy]\nhung_seconds = {BOUND}\n"))
    study.gate("run", 300)
    return study


def pass_after_pass(study, seconds, *reasons):
    """Make passes for so long; each finds the run running, for one of these reasons."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = study.run("run")
        assert (run["state"], run["cause"]) == ("running", None), run
        assert run["reason"] in reasons
        time.sleep(1)


@pytest.mark.parametrize(
    ("stop", "go_on", "state"),
    [
        (("scontrol", "suspend"), ("scontrol", "resume"), "SUSPENDED"),
        (("scancel", "--signal=STOP", "--full"), ("scancel", "--signal=CONT", "--full"), "STOPPED"),
    ],
    ids=["suspended", "stopped"],
)
def test_a_suspended_job_is_not_hung_and_completes(gated: Study, lab, undisturbed, stop, go_on, state, fault):
    """Nor is it called hung right after it was resumed, when its worker has not written anything yet."""
    gated.submit("run")
    job = gated.halt("run", 300)["job_id"]
    lab.run(*stop, job)
    assert gated.run("run")["reason"] == f"job {job} is suspended ({state})"
    pass_after_pass(gated, BOUND + 10, f"job {job} is suspended ({state})")
    lab.run(*go_on, job)
    pass_after_pass(gated, 5, "", f"job {job} is suspended ({state})")
    gated.open_gates("run")
    run = gated.until("run", "completed")
    assert gated.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 1
    assert gated.weights("run") == undisturbed
    fault("suspended", gated, same_bits=True)


def test_a_job_that_nobody_watched_while_it_was_suspended_is_not_hung(gated: Study, lab, undisturbed, fault):
    """Slurm says for how long a job was suspended."""
    gated.submit("run")
    job = gated.halt("run", 300)["job_id"]
    assert gated.run("run")["state"] == "running"
    lab.run("scontrol", "suspend", job)
    time.sleep(BOUND + 10)
    lab.run("scontrol", "resume", job)
    pass_after_pass(gated, 5, "")
    gated.open_gates("run")
    run = gated.until("run", "completed")
    assert run["attempts"] == 1
    assert gated.weights("run") == undisturbed
    fault("suspended", gated, same_bits=True)


def test_a_job_whose_reservation_was_deleted_is_alive_and_reported_once(study: Study, lab, undisturbed, fault):
    """It waits for the reservation until that is over; then Slurm holds it as RESV_DEL_HOLD, until it is released."""
    whose = ("nodes=n1", f"users={getpass.getuser()}")
    lab.run("scontrol", "create", "reservation", "reservationname=gone", "starttime=now", "duration=1", *whose)
    path = study.root / "study.toml"
    options = 'extra_sbatch = ["--reservation=gone", "--hold"]'
    path.write_text(path.read_text().replace("[resources]\n", f"[resources]\n{options}\n"))
    study.submit("run")
    [job] = {job for job, _ in study.known_jobs()}
    until(lambda: "RESV_DEL_HOLD" in lab.run("squeue", "-h", "-j", job, "-O", "State:20"), 600)
    told = [study.type("resume") for _ in range(3)]
    assert "run: Slurm reports its job as RESV_DEL_HOLD, a state unknown to lvjobs; treated as active" in told[0]
    assert not any("RESV_DEL_HOLD" in each for each in told[1:])
    run = study.run("run")
    assert (run["state"], run["cause"]) == ("queued", None)
    assert "its reservation was deleted" in run["reason"]
    lab.run("scontrol", "release", job)
    run = study.until("run", "completed")
    assert run["attempts"] == 1
    assert {job for job, _ in study.known_jobs()} == {job}
    assert study.weights("run") == undisturbed
    fault("unknown_state", study, same_bits=True)
