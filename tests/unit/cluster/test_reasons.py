"""Slurm's reasons in words."""

import ast
import re
from pathlib import Path

import pytest

import lvjobs
from lvjobs.cluster.states import (
    _HOLDS,
    _REQUEUE_HOLDS,
    _WORDS,
    ACTIVE_STATES,
    ENDED_STATES,
    PENDING_STATES,
    JobHold,
    explain,
    parse_hold,
)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "other jobs have a higher priority (Priority)"),
        (
            "Reservation r1 was deleted",
            "held by Slurm: its reservation was deleted (Reservation r1 was deleted)",
        ),
        ("Resources", "next in line, waiting for resources (Resources)"),
        (
            "(launch failed requeued held)",
            "held by Slurm: its node could not start it (launch failed requeued held)",
        ),
        (
            "launch_failed_requeued_held",
            "held by Slurm: its node could not start it (launch_failed_requeued_held)",
        ),
        (
            "ReqNodeNotAvail, UnavailableNodes:n[1-4]",
            ("a required node is down, drained or reserved for maintenance (ReqNodeNotAvail, UnavailableNodes:n[1-4])"),
        ),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            (
                "all suitable nodes are down, drained or reserved (Nodes required for job are DOWN, "
                "DRAINED or reserved for jobs in higher priority partitions)"
            ),
        ),
        ("QOSMaxJobsPerUserLimit", "its QOS is at its limit for one user (running jobs) (QOSMaxJobsPerUserLimit)"),
        ("AssocMaxJobsLimit", "its account is at its limit for one user (running jobs) (AssocMaxJobsLimit)"),
        ("AssocGrpGRES", "its account is at its limit for all jobs together (GPUs) (AssocGrpGRES)"),
        ("QOSGrpCpuLimit", "its QOS is at its limit for all jobs together (cores) (QOSGrpCpuLimit)"),
        ("QOSMaxGRESPerUser", "its QOS is at its limit for one user (GPUs) (QOSMaxGRESPerUser)"),
        ("MaxGRESPerAccount", "the site is at its limit for one account (GPUs) (MaxGRESPerAccount)"),
        (
            "AssocGrpCPUMinutesLimit",
            "its account is at its limit for all jobs together (resource time) (AssocGrpCPUMinutesLimit)",
        ),
        (
            "QOSMaxWallDurationPerJobLimit",
            "it requests more than its QOS allows one job (time): it never starts (QOSMaxWallDurationPerJobLimit)",
        ),
        ("QOSMinGRES", "it requests less than its QOS allows (GPUs): it never starts (QOSMinGRES)"),
        ("SomethingNew", "SomethingNew"),
        ("", ""),
    ],
)
def test_reasons(reason, words):
    assert explain(reason) == words


def test_a_held_job_is_told_with_the_command_that_releases_it():
    assert explain("JobHeldUser", "12") == "held by its user; to release it, type: scontrol release 12 (JobHeldUser)"
    assert explain("JobHeldUser") == "held by its user (JobHeldUser)"
    assert "scontrol release 12" in explain("Reservation r1 was deleted", "12")
    assert "scontrol" not in explain("JobHeldAdmin", "12"), "its user may not"


def test_every_reason_that_was_captured_has_words():
    text = (Path(__file__).parents[1] / "captured" / "squeue.txt").read_text()
    waiting = re.findall(r"PENDING\s+(\w+)", text)
    assert waiting
    assert all(explain(reason) != reason for reason in waiting)


@pytest.mark.parametrize(
    ("reason", "hold", "needs_release"),
    [
        ("", JobHold.NONE, False),
        ("Priority", JobHold.NONE, False),
        ("JobHeldUser", JobHold.NONE, False),
        ("BeginTime", JobHold.BEGIN_TIME, False),
        ("Dependency", JobHold.DEPENDENCY, False),
        ("DependencyNeverSatisfied", JobHold.NONE, False),
        ("launch failed requeued held", JobHold.LAUNCH_FAILED, True),
        ("launch_failed_requeued_held", JobHold.LAUNCH_FAILED, True),
        ("launch_failure_limit_exceeded_requeued_held", JobHold.REQUEUED_TOO_OFTEN, True),
        ("JobHoldMaxRequeue", JobHold.REQUEUED_TOO_OFTEN, True),
        ("user env retrieval failed requeued held", JobHold.LAUNCH_FAILED, True),
        ("PartitionTimeLimit", JobHold.NO_PLACE, False),
        ("InvalidQOS", JobHold.NO_PLACE, False),
    ],
)
def test_reasons_on_which_lvjobs_acts_are_values(reason, hold, needs_release):
    assert parse_hold(reason) is hold
    assert hold.needs_release is needs_release


PACKAGE = Path(lvjobs.__file__).parent
LAB = PACKAGE / "lab"
"""It speaks to a Slurm of its own."""


def slurms_words(path):
    """The strings in a module that are states or reasons of jobs, each with its line."""
    words = (
        ENDED_STATES | ACTIVE_STATES | PENDING_STATES | set(_HOLDS) | set(_WORDS) - {"Resources"}
    )  # which study.toml's table is called, too
    for node in ast.walk(ast.parse(path.read_text())):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if text in words or any(hold in text.lower() for hold in _REQUEUE_HOLDS):
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}"


def test_slurms_words_for_states_and_reasons_are_in_cluster_alone():
    others = [path for path in PACKAGE.rglob("*.py") if not {PACKAGE / "cluster", LAB} & set(path.parents)]
    assert [word for path in others for word in slurms_words(path)] == []
    assert [*slurms_words(PACKAGE / "cluster" / "states.py")] != []
