"""Refusals of slurmdbd: a shorter time is asked for, and older jobs by their ids."""

import time
from subprocess import CompletedProcess

import pytest

from lvjobs.cluster import slurm
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.slurm import SlurmCluster

DAY = 86400.0
NOW = 1_700_000_000.0
NEW, OLD = "0123456789ab", "ba9876543210"


class Accounting:
    """slurmdbd with a MaxQueryTimeRange: of a requeued job of ten days and again an hour ago, and one without a file."""

    jobs = ((7, OLD, NOW - 10 * DAY), (7, OLD, NOW - 3600), (8, NEW, NOW - 3600))

    def __init__(self, longest, said="sacct: error: Too wide of a date range in query\n"):
        self.longest, self.said, self.asked = longest, said, []

    def __call__(self, arguments, _timeout):
        which, value = arguments[6:8]
        self.asked.append(which)
        if which == "--jobs":
            return self.rows(lambda job, _: str(job) in value.split(","))
        since = time.mktime(time.strptime(value, "%Y-%m-%dT%H:%M:%S"))
        if NOW - since > self.longest:
            return CompletedProcess([], 1, "", self.said)
        return self.rows(lambda _, end: end >= since)

    def rows(self, wanted):
        lines = [
            f"{job}|COMPLETED|0:0|{end - 60:.0f}|{end:.0f}|low|n1|60|cpu=1|one.{token}\n"
            for job, token, end in self.jobs
            if wanted(job, end)
        ]
        return CompletedProcess([], 0, "".join(lines), "")


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Return the cluster's answer about the last 30 days, with this accounting."""
    (tmp_path / OLD).mkdir()
    (tmp_path / OLD / "7_submission.sh").touch()

    def ask(accounting):
        monkeypatch.setattr(slurm, "run", accounting)
        cluster = SlurmCluster(load_profile("generic"), tmp_path, clock=lambda: NOW)
        monkeypatch.setattr(cluster, "_queue", lambda: "")
        return cluster.observe([NEW, OLD], NOW - 30 * DAY)

    return ask


def rows(snapshot):
    return sorted((job.id, job.token, job.restart_count) for job in snapshot.history)


EVERY = [("7", OLD, 0), ("7", OLD, 1), ("8", NEW, 0)]


def test_a_site_without_a_longest_range_is_asked_once(seen):
    accounting = Accounting(longest=1e9)
    assert rows(seen(accounting)) == EVERY
    assert accounting.asked == ["--starttime"]


def test_a_range_that_is_refused_is_halved_and_jobs_are_asked_for_by_id_all_runs_of_them(seen):
    accounting = Accounting(longest=4 * DAY)
    snapshot = seen(accounting)
    assert (rows(snapshot), snapshot.problem) == (EVERY, "")
    assert accounting.asked == ["--starttime"] * 4 + ["--jobs"]


def test_a_site_that_refuses_every_range_is_asked_for_no_shorter_one_in_the_end(seen):
    accounting = Accounting(longest=0)
    snapshot = seen(accounting)
    assert (snapshot.history, snapshot.problem) == (None, "sacct: Too wide of a date range in query")
    assert len(accounting.asked) < 20


def test_another_refusal_is_no_reason_to_ask_again(seen):
    accounting = Accounting(longest=0, said="sacct: error: Problem talking to the database: Connection refused\n")
    assert seen(accounting).history is None
    assert accounting.asked == ["--starttime"]
