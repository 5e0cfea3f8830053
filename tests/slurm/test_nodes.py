"""A node that fails under one run is avoided by the study's other runs, for as long as another node is left."""

import math
import time

import pytest
from driving import Study, closed_partition, until

pytestmark = pytest.mark.slurm


def node_of(lab, job_id):
    return lab.run("squeue", "-h", "-j", job_id, "-o", "%N").strip()


def excluded(lab, job_id):
    """The nodes that Slurm keeps the job off."""
    return lab.run("squeue", "-h", "-j", job_id, "-o", "%x").strip()


def fail_under(study, lab):
    """Submit a run, fail its node, and bring the node back into service; return its name.

    The run's job is told to avoid it.
    """
    study.gate("run", 50)
    study.submit("run", "--steps", "20000")
    job_id = study.halt("run", 50)["job_id"]
    node = node_of(lab, job_id)
    with closed_partition(lab):  # however short Slurm's hold is for a machine that stalls
        lab.fail(node)
        until(lambda: study.run("run")["cause"] == "node_fail")
        lab.restore(node)
        until(lambda: study.run("run") and excluded(lab, job_id) == node)
    return node


@pytest.mark.parametrize("kind", ["requeue", "no_accounting"])
def test_a_node_that_fails_under_one_run_is_avoided_by_another(kind, study: Study, lab_for, lab_configs):
    lab = lab_for(lab_configs[kind])
    node = fail_under(study, lab)
    study.submit("other", "--steps", "20000")
    job_id = study.run("other")["job_id"]
    assert excluded(lab, job_id) == node
    assert node_of(lab, study.reach("other", 1)["job_id"]) != node
    study.reach("run", 1, generation=2)
    assert f"avoided nodes: {node} until" in study.type("status")
    assert [entry["node"] for entry in study.summary()["avoided_nodes"]] == [node]


def test_the_last_node_of_a_partition_is_used_though_it_failed(study: Study, lab):
    node = fail_under(study, lab)
    others = ",".join(name for name in lab.config.node_names if name != node)
    lab.run("scontrol", "update", f"nodename={others}", "state=drain", "reason=test")
    try:
        assert "where a run failed" in study.submit("other", "--steps", "30") + study.type("status", "other")
        study.until("other", "completed")
        assert {line["node"] for line in study.journal("other") if line["kind"] == "start"} == {node}
        assert f"{node} until" in (shown := study.type("status"))
        assert "still used in partition" in shown
    finally:
        lab.run("scontrol", "update", f"nodename={others}", "state=resume")


def test_jobs_that_wait_are_told_when_the_list_expires(study: Study, lab):
    node = fail_under(study, lab)
    with closed_partition(lab):
        study.submit("other", "--steps", "30")
        job_id = study.run("other")["job_id"]
        assert excluded(lab, job_id) == node
        (entry,) = study.summary()["avoided_nodes"]
        assert entry["until"] == entry["since"] + 24 * 3600
        path = study.root / "study.toml"
        text = path.read_text()
        for seconds in (20, 60, 180):  # a machine may stand still for as long as the shorter ones
            expiry = math.ceil(time.time()) + seconds
            hours = (expiry - entry["since"]) / 3600
            path.write_text(f"{text}exclude_hours = {hours}\n")  # [policy] is the last table
            study.run("other")
            is_excluded = excluded(lab, job_id) == node
            if time.time() < expiry:
                break
        assert is_excluded
        assert time.time() < expiry
        until(lambda: study.run("other") and excluded(lab, job_id) in ("", "(null)", "N/A"), seconds + 120)
        assert time.time() >= expiry, "the job was told before the list expired"
        assert study.summary()["avoided_nodes"] == []
    study.until("other", "completed")
