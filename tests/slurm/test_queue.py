"""The queue is part of the problem: what a site's limits, and a job that waits, mean for a study."""

import json
import time

import pytest
from driving import LIMITS, Study, limit_jobs, until

from lvjobs import remedies
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import Cap, ClusterError, JobRequest, Limits
from lvjobs.cluster.slurm import SlurmCluster

pytestmark = pytest.mark.slurm

STAGE = """
[[stage]]
name = "many"
steps = 4
grid = {{ width = [2, 4, 8], learning_rate = [1e-4, 5e-5, 1e-5], seed = {seeds} }}
"""


@pytest.fixture
def limited(lab):
    """The usual lab, whose QOS lets a user have four jobs in the queue."""
    try:
        limit_jobs(lab, 4)
        yield lab
    finally:
        lab.run("scancel", "--quiet", "--me")
        lab.run("sacctmgr", "-i", "-Q", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")
        until(lambda: "MaxSubmitJobsPU=4(" not in lab.run(*LIMITS))


def queued(lab):
    """Count the jobs, without one that is leaving its node."""
    return len(lab.run("squeue", "-h", "-r", "-t", "PENDING,CONFIGURING,RUNNING", "-o", "%i").split())


@pytest.mark.slow
@pytest.mark.parametrize(("told", "runs"), [(True, 27), (False, 9)], ids=["told", "found out"])
def test_a_sweep_goes_through_a_limit_of_4_queued_jobs(study: Study, limited, told, runs, tmp_path, fault):
    if not told:
        hide_sacctmgr(study, tmp_path / "bin")
    seeds = list(range(runs // 9))
    (study.root / "study.toml").write_text((study.root / "study.toml").read_text() + STAGE.format(seeds=seeds))
    study.gate("any", 1)  # none ends, and makes room, before the queue has been seen full
    said = study.type("sweep", "many")
    assert f"{runs} runs: the first" in said
    assert "wait for free slots in the queue" in said
    summary = json.loads(study.type("status", "--json", "--no-pass"))
    states = [run["state"] for run in summary["runs"]]
    room = 3 if told else 4
    assert [state == "planned" for state in states] == [False] * room + [True] * (runs - room), said
    seen = [queued(limited)]
    assert seen == [room]
    study.open_gates("any")
    watch = study.start("watch", "--every", "1")
    until(lambda: seen.append(queued(limited)) or watch.poll() is not None, 1200)
    out, err = watch.communicate()
    assert max(seen) == room
    silent = ("note: squeue: ", "note: sacct: ")  # of a machine that stalls
    assert (watch.returncode, [line for line in err.splitlines() if not line.startswith(silent)]) == (0, [])
    ended = study.runs().values()
    assert {run["state"] for run in ended} == {"completed"}
    assert {run["attempts"] for run in ended} == {1}
    assert len({run["job_id"] for run in ended}) == runs
    words = ("QOSMaxSubmit", "refused", "deferred", "error:")
    assert [line for line in (said + out).splitlines() if any(word in line for word in words)] == []
    fault("submit_limit", study)


def hide_sacctmgr(study, directory):
    """From now on the site tells nobody its limits."""
    directory.mkdir()
    script = directory / "sacctmgr"
    script.write_text("#!/bin/sh\necho 'sacctmgr: error: Access denied' >&2\nexit 1\n")
    script.chmod(0o755)
    study.prepend_path(directory)


def test_the_second_run_of_its_kind_asks_for_no_more_time_than_it_needs(study: Study, lab):
    """And in whichever partition, under whichever QOS, it is taken."""
    choice = ("--time-limit", "auto", "--qos", "nobody,normal", "--partition", "low,urgent")
    study.submit("one", "--steps", "30", *choice)
    [first] = shown(lab, "JobArrayID,TimeLimit,QOS,Partition", "-t", "all", "-j", study.run("one")["job_id"])
    assert first[1:3] == ["1:00:00", "normal"], "nothing was measured: the profile's; the first QOS is none"
    assert set(first[3].split(",")) <= {"low", "urgent"}
    study.until("one", "completed")
    until(lambda: "measured" in study.submit("two", "--steps", "30", "--seed", "1", "--dry-run", *choice))
    said = study.submit("two", "--steps", "30", "--seed", "1", "--dry-run", *choice)
    [words] = [line for line in said.splitlines() if line.startswith("# time limit: ")]
    [minutes] = [line.rpartition("=")[2] for line in said.splitlines() if line.startswith("#SBATCH --time=")]
    assert words.startswith(f"# time limit: {minutes} min (")
    assert int(minutes) < 60
    study.submit("two", "--steps", "30", "--seed", "1", *choice)
    study.until("two", "completed")


def test_a_waiting_job_gets_more_time_and_a_member_of_an_array_too(lab, tmp_path):
    cluster = SlurmCluster(load_profile("lab"), tmp_path)
    array = lab.run("sbatch", "--parsable", "-t", "10", "--array=0-2%1", "-o", "/dev/null", "--wrap=sleep 600").strip()
    single = lab.run("sbatch", "--parsable", "-t", "10", "--begin=now+300", "-o", "/dev/null", "--wrap=true").strip()
    cluster.extend(single, 20)
    cluster.extend(f"{array}_2", 25)
    limits = dict(shown(lab, "JobArrayID,TimeLimit"))
    assert [limits[job] for job in (f"{array}_1", f"{array}_2", single)] == ["10:00", "25:00", "20:00"]
    with pytest.raises(ClusterError, match="Invalid job id"):
        cluster.extend("999999", 20)


def test_what_the_site_allows_is_read_off_sacctmgr(limited, tmp_path):
    cluster = SlurmCluster(load_profile("lab"), tmp_path)
    request = JobRequest("0" * 12, "x", [tmp_path], tmp_path, tmp_path, "/py")
    assert cluster.limits(request) == Limits(
        (Cap(("qos", "normal"), 4, "QOS normal: MaxSubmitJobsPU=4"),), members=20000, minutes=2160
    )
    before = cluster.load().get(("qos", "normal"), 0)
    limited.run("sbatch", "--array=0-1", "--begin=now+300", "-o", "/dev/null", "--wrap=true")
    load = cluster.load()
    assert load["qos", "normal"] == load["account", "lab"] == load["partition", "low"] == before + 2


@pytest.mark.remedy("SCONTROL_UPDATE")
def test_a_job_that_waits_says_why_and_what_would_start_sooner(study: Study, lab, take):
    lab.run("sbatch", "-p", "low", "-N4", "--gres=gpu:4", "-t", "60", "-o", "/dev/null", "--wrap=sleep 1000")
    until(lambda: "RUNNING" in lab.run("squeue", "-h", "-o", "%T"))
    study.submit("one", "--steps", "20")
    # the scheduler takes a moment to say why, and when
    row = until(
        lambda: (row := study.run("one"))["start_estimate"] and row["queue_reason"] in ("Resources", "Priority") and row
    )
    assert row["state"] == "queued"
    assert row["reason"].endswith(f"({row['queue_reason']})")
    assert time.time() + 1800 < row["start_estimate"] < time.time() + 7200
    assert "Slurm expects it to start" in study.type("status")
    queue = said = study.type("queue", "one")
    assert f"scontrol update jobid={row['job_id']} partition=urgent" in said
    assert "a job like it, sent now" not in said, "it would start later"
    said = study.type("why", "one")
    assert "queued as job" in said
    assert "the only pending job in partition low (priority " in said
    assert "partition urgent" in said
    assert len(shown(lab, "JobID")) == 2, "nothing was submitted"
    told = json.loads(study.type("queue", "--json"))
    starts = {one["what"]: one["start"] for one in told["alternatives"]}
    assert starts["partition urgent"] < time.time() + 60
    assert max(starts.values()) < row["start_estimate"]
    code, _, err = take(remedies.SCONTROL_UPDATE, queue, job=row["job_id"], setting="partition=urgent")
    assert code == 0, err
    study.until("one", "completed")


def shown(lab, columns, *which):
    """The queue, a list of the columns' values for each job."""
    return [line.split() for line in lab.run("squeue", "-h", "-r", *which, "-O", columns).splitlines()]
