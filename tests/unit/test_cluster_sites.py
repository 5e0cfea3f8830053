"""What a site promises, read off captured answers."""

from pathlib import Path

import pytest

from lvjobs.cluster import sites
from lvjobs.cluster.filed import FiledJob, filed_job
from lvjobs.cluster.protocol import JobRequest
from lvjobs.errors import UsageError

CAPTURED = Path(__file__).parent / "captured"


@pytest.fixture
def config():
    return sites.parse_config((CAPTURED / "scontrol_config.txt").read_text())


@pytest.fixture
def partitions():
    return sites.parse_partitions((CAPTURED / "scontrol_partitions.txt").read_text())


def request(members=1):
    return JobRequest("0" * 12, "x", [Path(f"/{index}") for index in range(members)], Path("/l"), Path("/c"), "/py")


def test_a_site(config, partitions):
    site = sites.site_of(config, partitions, (CAPTURED / "sacctmgr_qos.txt").read_text())
    assert (site.backend, site.requeue, site.preempt_mode, site.accounting) == ("slurm", True, "requeue", True)
    assert (site.requeue_hold_seconds, site.kill_wait_seconds, site.min_job_age_seconds) == (121, 5, 300)
    assert site.max_array_size == 20001
    assert site.partitions == {"low": 2160, "high": 2160}
    assert site.notes == ("qos normal: MaxWall=12:00:00, MaxSubmitJobsPU=8",)


def test_a_site_that_cancels(config, partitions):
    changed = config | {
        "PreemptMode": "CANCEL",
        "PreemptParameters": "send_user_signal",
        "JobRequeue": "0",
        "AuthInfo": "socket=/x,cred_expire=5",
        "ScronParameters": "enable,explicit_scancel",
        "AccountingStorageType": "(null)",
    }
    site = sites.site_of(changed, partitions | {"old": {"PartitionName": "old", "State": "DOWN"}})
    assert (site.preempt_mode, site.requeue, site.requeue_hold_seconds, site.accounting) == ("cancel", False, 6, False)
    notes = " ".join(site.notes)
    for word in (
        "JobRequeue=0",
        "PreemptMode=REQUEUE",
        "old is DOWN",
        "cancelled, not requeued",
        "--signal",
        "scrontab",
    ):
        assert word in notes


def test_a_site_that_said_nothing():
    site = sites.site_of({}, {})
    assert (site.requeue, site.preempt_mode, site.requeue_hold_seconds, site.max_array_size) == (None, None, None, None)
    assert not site.accounting


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("1-12:00:00", 2160), ("00:30:30", 30.5), ("UNLIMITED", None), ("", None), ("NONE", None)],
)
def test_minutes(text, minutes):
    assert sites.parse_minutes(text) == minutes


def test_a_time_limit_over_the_partitions(config, partitions):
    def excess(**asked):
        return sites.find_excess(request(), asked, config, partitions)

    assert excess(partition="low", time_limit_minutes=2161) == "low"
    assert excess(partition="", time_limit_minutes=2161) == "low"  # the default partition
    assert excess(partition="low", time_limit_minutes=2160) is None
    partitions["high"]["MaxTime"] = "UNLIMITED"
    assert excess(partition="low,high", time_limit_minutes=9999) is None
    error = sites.refuse_excess(2161, "low", "1-12:00:00")
    assert str(error).startswith("time_limit: 2161 minutes is over partition low's maximum, 1-12:00:00")


def test_an_unknown_partition(config, partitions):
    with pytest.raises(UsageError, match="partition: there is no 'nope' here; there are high, low"):
        sites.find_excess(request(), {"partition": "nope"}, config, partitions)


def test_an_array_that_is_too_long(config, partitions):
    sites.find_excess(request(3), {}, config | {"MaxArraySize": "4"}, partitions)
    with pytest.raises(UsageError, match="4 runs are too many for one array here"):
        sites.find_excess(request(4), {}, config | {"MaxArraySize": "4"}, partitions)
    sites.find_excess(request(1), {}, config | {"MaxArraySize": "0"}, partitions)


def test_the_script_that_submitit_filed(tmp_path):
    assert filed_job(tmp_path / "missing") is None
    (tmp_path / ".submission_file_ab.sh").touch()
    assert filed_job(tmp_path) is None
    (tmp_path / "17_submission.sh").write_text("#!/bin/bash\n#SBATCH --array=0-8%3\n")
    assert filed_job(tmp_path) == FiledJob("17", 9)
    (tmp_path / "17_submission.sh").write_text("#!/bin/bash\n")
    assert filed_job(tmp_path) == FiledJob("17", 1)
