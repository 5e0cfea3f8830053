"""The promises of a site, read off captured answers."""

from pathlib import Path

import pytest

from lvjobs.cluster import sites
from lvjobs.cluster.protocol import Limits
from lvjobs.cluster.sent import FiledJob, filed_job
from lvjobs.cluster.sites import SlurmSite
from lvjobs.errors import UsageError

CAPTURED = Path(__file__).parents[1] / "captured"


@pytest.fixture
def config():
    return sites.parse_config((CAPTURED / "scontrol_config.txt").read_text())


@pytest.fixture
def partitions():
    return sites.parse_partitions((CAPTURED / "scontrol_partitions.txt").read_text())


def test_a_site(config, partitions):
    qos = sites.parse_qos((CAPTURED / "sacctmgr_qos.txt").read_text())
    site = SlurmSite(config, partitions, qos).promises
    assert (site.backend, site.preempt_mode, site.accounting) == ("slurm", "requeue", True)
    assert (site.requeue_hold_seconds, site.min_job_age_seconds) == (121, 300)
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
    site = SlurmSite(changed, partitions | {"old": {"PartitionName": "old", "State": "DOWN"}}).promises
    assert (site.preempt_mode, site.requeue_hold_seconds, site.accounting) == ("cancel", 6, False)
    notes = " ".join(site.notes)
    for word in (
        "JobRequeue=0",
        "PreemptMode=REQUEUE",
        "old is DOWN",
        "cancelled, not requeued",
        "--signal",
    ):
        assert word in notes
    assert (site.scrontab, site.ways) == (True, ("scrontab is available and can update the study",))


def test_a_site_that_said_nothing():
    site = SlurmSite().promises
    assert (site.preempt_mode, site.requeue_hold_seconds) == (None, None)
    assert not site.accounting


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("1-12:00:00", 2160), ("00:30:30", 30.5), ("30:30", 30.5), ("UNLIMITED", None), ("", None), ("NONE", None)],
)
def test_minutes(text, minutes):
    assert sites.parse_minutes(text) == minutes


def test_a_time_limit_over_the_partitions(partitions):
    def excess(**asked):
        return SlurmSite(partitions=partitions).find_excess(asked)

    assert excess(partition="low", time_limit_minutes=2161) == "low"
    assert excess(partition="", time_limit_minutes=2161) == "low"  # the default partition
    assert excess(partition="low", time_limit_minutes=2160) is None
    partitions["high"]["MaxTime"] = "UNLIMITED"
    assert excess(partition="low,high", time_limit_minutes=9999) is None
    error = sites.refuse_excess(2161, "low", "1-12:00:00")
    assert str(error).startswith("time_limit: 2161 minutes is over partition low's maximum, 1-12:00:00")


def test_an_unknown_partition(partitions):
    with pytest.raises(UsageError, match="partition: there is no 'nope' here; there are high, low"):
        SlurmSite(partitions=partitions).find_excess({"partition": "nope"})


QOS = "normal||00:00:00||cluster|||4|||20\nbig|||||||100||11|\nempty||||||||||"
ENFORCED = {
    "ClusterName": "lv",
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "AccountingStorageEnforce": "associations,limits,qos",
}


def limits(qos_text="", user_text="", partitions=None, config=ENFORCED, **asked):
    rows = "".join(f"{line}|lv||\n" for line in user_text.splitlines())
    rows += "lab|lab||1|1|big|elsewhere||\n"  # another cluster's, with the same accounts
    site = SlurmSite(config, partitions or {}, sites.parse_qos(qos_text), sites.parse_associations(rows, "lv"))
    found = site.limits_of(asked)
    return {cap.said: (cap.place, cap.most, cap.shared) for cap in found.caps}


def test_no_limits():
    assert SlurmSite().limits_of({}) == Limits()
    assert limits(QOS, "lab|lab||7|9|big\n", config={}) == {}, "the site does not enforce them"
    assert limits("empty||||||||||", "lab|lab||||\n") == {}


def test_the_limits_of_a_qos():
    assert limits(QOS) == {
        "QOS normal: MaxSubmitJobsPU=4": (("qos", "normal"), 4, False),
        "QOS normal: GrpSubmit=20": (("qos", "normal"), 20, True),
    }
    assert limits(QOS, qos="big") == {
        "QOS big: MaxSubmitJobsPU=100": (("qos", "big"), 100, False),
        "QOS big: MaxSubmitJobsPA=11": (("qos", "big"), 11, True),
    }


def test_the_limits_of_an_association_and_its_default_qos():
    user = "lab|root||1||\nlab|lab||7|9|big\n"
    assert limits("", user) == {
        "account lab: MaxSubmitJobs=7": (("account", "lab"), 7, False),
        "account lab: GrpSubmitJobs=9": (("account", "lab"), 9, True),
    }
    assert list(limits("", user, account="root")) == ["account root: MaxSubmitJobs=1"]
    assert "QOS big: MaxSubmitJobsPU=100" in limits(QOS, user)
    of_partition = user + "lab|lab|low|5||\n"
    assert list(limits("", of_partition, partition="low")) == ["account lab: MaxSubmitJobs=5"]
    assert list(limits("", of_partition, partition="high")) == list(limits("", user))


def test_the_first_level_that_sets_a_limit_is_what_slurm_obeys():
    user = "lab|lab||2||\n"
    partitions = {"low": {"PartitionName": "low", "Default": "YES", "QoS": "big"}, "high": {"QoS": "N/A"}}
    assert list(limits(QOS, user)) == ["QOS normal: MaxSubmitJobsPU=4", "QOS normal: GrpSubmit=20"]
    assert next(iter(limits(QOS, user, partitions))) == "partition low, QOS big: MaxSubmitJobsPU=100"
    assert limits(QOS, user, partitions, partition="high") == limits(QOS, user)
    assert limits(QOS, user, partitions, partition="low,high") == limits(QOS, user)


def test_what_the_profile_says():
    assert limits(max_queued=8) == {"max_queued = 8": (("user", ""), 8, False)}
    assert limits(max_queued=0) == {}


@pytest.mark.parametrize(("largest", "members"), [("1001", 1000), ("0", 1), ("1", 1)])
def test_the_longest_array(largest, members):
    assert SlurmSite({"MaxArraySize": largest}).limits_of({}).members == members


def test_whether_limits_bind():
    def enforced(**changes):
        site = SlurmSite(ENFORCED | changes)
        return site.enforces(sites.LIMITS), site.enforces(sites.RIGHTS)

    assert enforced() == (True, True)
    assert enforced(AccountingStorageEnforce="safe") == (True, True)
    assert enforced(AccountingStorageEnforce="associations") == (False, True)
    assert enforced(AccountingStorageType="(null)") == (False, False)
    assert not SlurmSite().enforces(sites.RIGHTS)


def test_the_script_that_submitit_filed(tmp_path):
    assert filed_job(tmp_path / "missing") is None
    (tmp_path / ".submission_file_ab.sh").touch()
    assert filed_job(tmp_path) is None
    (tmp_path / "17_submission.sh").write_text("#!/bin/bash\n#SBATCH --array=0-8%3\n")
    assert filed_job(tmp_path) == FiledJob("17", 9)
    (tmp_path / "17_submission.sh").write_text("#!/bin/bash\n")
    assert filed_job(tmp_path) == FiledJob("17", 1)
