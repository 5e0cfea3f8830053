"""Several commands at once in one study, and one that slept through its lease."""

import os
import shutil
import signal
import stat
import time

import pytest
from driving import Study

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.storm)])
def test_two_commands_at_once(study: Study, lab, times):
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # jobs are taken, and wait
    try:
        for number in range(times):
            words = [
                ("submit", "run", "--name", f"{side}{number}", "--steps", str(number + 1)) for side in ("left", "right")
            ]
            for process, typed in [(study.start(*each), each) for each in words]:
                out, err, code = study.outcome(process, *typed)
                assert code == 0, out + err
                assert "locked" not in out + err
        runs = study.runs()
        assert len(runs) == 2 * times
        queued = lab.run("squeue", "-h", "-o", "%i|%j").split()
        assert sorted(run["job_id"] for run in runs.values()) == sorted(line.split("|")[0] for line in queued)
        assert len({line.rpartition(".")[2] for line in queued}) == 2 * times
    finally:
        lab.run("scancel", f"--user={os.getuid()}")
        lab.run("scontrol", "update", "partitionname=low", "state=up")


def test_a_pass_that_slept_through_its_lease_writes_nothing(study: Study, lab, tmp_path, fault):
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        study.submit("run", "--steps", "20")
        slow = tmp_path / "slow"
        slow.mkdir()
        script = slow / "squeue"
        script.write_text(f'#!/bin/sh\nkill -STOP $PPID\ntouch {slow}/asked\nexec "{shutil.which("squeue")}" "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        study.environment["PATH"] = f"{slow}:{os.environ['PATH']}"
        sleeper = study.start("resume")
        while not (slow / "asked").exists():
            time.sleep(0.02)
        del study.environment["PATH"]
        study.type("cancel", "run")  # waits for the term to pass, then takes over
        before = (study.root / "runs.db").read_bytes()
        sleeper.send_signal(signal.SIGCONT)
        out, err = sleeper.communicate(timeout=600)
        assert sleeper.returncode == 1, out + err
        assert "another lvjobs process took over this study" in err
        assert (study.root / "runs.db").read_bytes() == before
        assert study.run("run")["state"] == "cancelled"
        fault("lease_slept", study, saw=err.strip().splitlines()[-1])
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
