"""Requests that would start sooner: few questions, and the command to type."""

import json
from dataclasses import replace

import pytest
from control_scenes import Scene, make_haste
from rich.console import Console
from simulator.engine import Manners

from lvjobs.cluster.local import LocalCluster
from lvjobs.cluster.parse import parse_estimate
from lvjobs.cluster.protocol import ClusterError
from lvjobs.control.inspect.alternatives import MOST_QUESTIONS, alternatives, find_alternatives, waiting_rows
from lvjobs.errors import UsageError
from lvjobs.records.summary import RunStatus, Summary, read_row
from lvjobs.report.terminal.run_lines import print_queue
from lvjobs.report.terminal.status_lines import print_status

ASKED = {"time_limit_minutes": 60, "partition": "low", "gpus": 4}


def words(*args):
    return [one.words for one in alternatives(*args)]


def test_less_time_other_partitions_fewer_gpus():
    found = alternatives(ASKED, "17_3", {"low": 60.0, "high": None, "short": 30.0}, None, 8)
    assert [one.words for one in found] == [
        "a job like it, sent now",
        "30 min instead of 60",
        "15 min instead of 60",
        "partition high",
        "2 of 4 GPUs",
    ]
    assert [one.changes for one in found[1:]] == [
        {"time_limit_minutes": 30},
        {"time_limit_minutes": 15},
        {"partition": "high"},
        {"gpus": 2},
    ]
    assert found[1].typed == "scontrol update jobid=17_3 timelimit=30"
    assert found[3].typed == "scontrol update jobid=17_3 partition=high"
    assert "[resources]" in found[4].typed


def test_the_time_that_it_needs_where_that_was_measured():
    assert words(ASKED, "1", {}, 22, None) == ["a job like it, sent now", "as measured: 22 min instead of 60"]
    assert words(ASKED, "1", {}, 70, None) == ["a job like it, sent now"]


def test_gpus_that_would_not_divide_the_batch_are_not_offered():
    assert words({"gpus": 4}, "1", {}, None, 3) == ["a job like it, sent now"]
    assert words({"gpus": 1}, "1", {}, None, 4) == ["a job like it, sent now"]


def test_never_more_than_a_handful():
    partitions = dict.fromkeys("abcdefgh")
    found = alternatives(ASKED, "1", partitions, None, 4)
    assert len(found) == MOST_QUESTIONS
    assert "2 of 4 GPUs" in [one.words for one in found]


def test_what_test_only_prints():
    assert (
        parse_estimate("sbatch: Job 1 to start at 1795613692 using 1 processors on nodes n1 in partition low")
        == 1795613692
    )
    with pytest.raises(ClusterError, match="no estimate"):
        parse_estimate("")


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = Scene(tmp_path, manners=Manners(slots=1, max_minutes=90))
    scene.enter("one", "two", time_limit="60m")
    scene.cluster.advance(2)
    return scene


def test_the_status_has_slurms_reason_and_its_estimate(scene):
    scene.job("two").start = scene.clock.now + 3600
    with scene.session() as session:
        summary = session.make_pass()
    one, two = summary["runs"]
    assert (one["queue_reason"], one["start_estimate"]) == (None, None)
    assert (two["queue_reason"], two["start_estimate"]) == ("Priority", scene.clock.now + 3600)
    assert two["reason"] == "other jobs have a higher priority (Priority)"
    console = Console(record=True, width=200)
    print_status(Summary.from_dict(summary), console)
    assert "two: other jobs have a higher priority (Priority); Slurm expects it to start " in console.export_text()
    shown = json.loads(scene.study.layout.summary.read_text())
    assert shown["runs"][1]["queue_reason"] == "Priority", "a command that makes no pass shows it too"


def test_many_of_whom_the_same_is_to_be_said_are_told_of_once(scene):
    with scene.session() as session:
        summary = session.make_pass()
    rows = [{**summary["runs"][1], "name": f"r{number}"} for number in range(9)]
    console = Console(record=True, width=200)
    print_status(Summary.from_dict({**summary, "runs": rows}), console)
    assert "r0, r1, r2 and 6 more: other jobs have a higher priority" in console.export_text()


def test_slurm_is_asked_and_the_soonest_comes_first(scene, monkeypatch):
    monkeypatch.setattr("lvjobs.control.backends.defaults_of", lambda _profile: {})
    partitions = {"simulated": None, "closed": None}
    probe = scene.cluster.probe
    scene.cluster.probe = lambda: replace(probe(), partitions=partitions)
    with scene.session() as session:
        rows = waiting_rows(session.make_pass(), None)
        answers = find_alternatives(session, rows[0])
    assert [row["name"] for row in rows] == ["two"]
    assert [(one.alternative.words, one.start) for one in answers][:2] == [
        ("15 min instead of 60", scene.clock.now + 15),
        ("30 min instead of 60", scene.clock.now + 30),
    ]
    assert all(one.start is not None for one in answers), "what never starts is no help"
    assert len(answers) < len(scene.calls("estimate_start")) <= MOST_QUESTIONS
    console = Console(record=True, width=200)
    print_queue([read_row(RunStatus, row) for row in rows], [one.to_dict() for one in answers], console)
    text = console.export_text()
    assert "scontrol update jobid=1_1 timelimit=15" in text


def test_runs_that_do_not_wait(scene):
    with scene.session() as session:
        summary = session.make_pass()
    with pytest.raises(UsageError, match="one has no job in the queue"):
        waiting_rows(summary, "one")
    with pytest.raises(UsageError, match="no run 'three'"):
        waiting_rows(summary, "three")


def test_a_silent_scheduler_is_asked_once(scene):
    with scene.session() as session:
        rows = waiting_rows(session.make_pass(), None)
        scene.cluster.silent = True
        with pytest.raises(UsageError, match="cannot be estimated"):
            find_alternatives(session, rows[0])


def test_the_local_backend_foresees_nothing(tmp_path):
    with pytest.raises(ClusterError, match="local_slots"):
        LocalCluster(tmp_path).estimate_start(None)


def test_an_empty_queue():
    console = Console(record=True)
    print_queue([], [], console)
    assert "No job of this study is waiting" in console.export_text()
