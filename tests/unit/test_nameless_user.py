"""A user id that the password database does not know, with no HOME: a container, or a directory service that is down."""

import pwd
from pathlib import Path

import pytest

from lvjobs.cluster.enquiry import enquire
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import ClusterError, JobRequest
from lvjobs.cluster.sites import SlurmSite
from lvjobs.cluster.slurm import SlurmCluster

REQUEST = JobRequest("0" * 12, "one", [Path("/run")], Path("/logs"), Path("/code"), "/python")


@pytest.fixture(autouse=True)
def _nameless(monkeypatch, tmp_path):
    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "LVJOBS_LAB", "LVJOBS_STUDY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_limits_that_accounting_keeps_by_name_are_unknown_and_no_traceback(monkeypatch, tmp_path):
    cluster = SlurmCluster(load_profile("generic"), tmp_path)
    config = {"AccountingStorageType": "accounting_storage/slurmdbd", "AccountingStorageEnforce": "limits"}
    monkeypatch.setattr(cluster, "_site", lambda *_: SlurmSite(config))
    with pytest.raises(ClusterError, match="has no user name here"):
        cluster.limits(REQUEST)


def test_the_doctor_asks_all_that_needs_no_name():
    replies = enquire({}, seconds=5)
    assert "has no user name here" in replies["user"].problem
    assert "has no user name here" not in replies["queue"].problem


def test_a_study_is_made_and_shown(typed):
    assert typed("init", "--profile", "local")[0] == 0
    assert typed("status")[0] == 0


def test_a_lab_without_a_home_directory_is_an_error_of_one_line(typed):
    code, _, err = typed("lab", "status")
    assert (code, err.count("\n")) == (2, 1)
    assert "--dir" in err


def test_a_tilde_without_a_home_directory_is_an_error_of_one_line(typed):
    for words in (("status", "--study", "~/study"), ("submit", "train", "--data", "~/data.h5")):
        code, _, err = typed(*words)
        assert (code, err.count("\n")) == (2, 1), err
        assert "write the absolute path" in err
