"""The nodes that a study avoids: learned from one run, avoided by all, for a time, and never all that could run a job."""

import json

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners

from lvjobs.cluster.nodes import expand_nodes, parse_nodes
from lvjobs.cluster.protocol import Node, SubmitRefused
from lvjobs.control.submission.avoided_nodes import Avoidance, Avoided, Choice, choose
from lvjobs.doctor.places import check_study
from lvjobs.records.summary import Summary
from lvjobs.report.terminal.console import new_console
from lvjobs.report.terminal.status_lines import render_status
from lvjobs.study.tables import Policy

HOUR = 3600
SINFO = """\
n1|low*|idle|32|256000|gpu:ampere:4
n1|urgent|idle|32|256000|gpu:ampere:4
n2|low*|drained|32|256000|gpu:ampere:4(S:0-1)
n3|low*|down*|32|256000|gpu:4
n4|low*|mixed-|64|512000|gpu:a100:2,gpu:v100:2
n5|low*|idle*|32|256000|(null)
n6|big|allocated|128|1024000|(null)
"""


def nodes(**asked):
    return {node.name: node.is_up for node in parse_nodes(SINFO, asked)}


def test_the_nodes_of_a_partition_and_which_are_up():
    assert nodes(partition="low") == {"n1": True, "n2": False, "n3": False, "n4": True, "n5": False}
    assert nodes() == nodes(partition="low"), "the default partition"
    assert nodes(partition="urgent,big") == {"n1": True, "n6": True}


def test_nodes_that_are_too_small_for_the_job_are_left_out():
    assert set(nodes(partition="low", gpus=1)) == {"n1", "n2", "n3", "n4"}
    assert set(nodes(partition="low", gpus=4, cpus=64)) == {"n4"}
    assert nodes(partition="low", memory_mb=600_000) == {}


def test_node_lists_are_read_as_slurm_writes_them():
    assert expand_nodes(["n[1-3,07],m2", "gpu-a"]) == {"n1", "n2", "n3", "n07", "m2", "gpu-a"}
    assert expand_nodes(["r[08-10]n[1-2]"]) == {f"r{rack}n{node}" for rack in ("08", "09", "10") for node in (1, 2)}
    assert expand_nodes(["n[x]", ""]) == {"n[x]"}


def listed(*names):
    return [Avoided(name, float(at), "node_fail, run one") for at, name in enumerate(names)]


UP = [Node("n1"), Node("n2"), Node("n3")]


@pytest.mark.parametrize(
    ("entries", "own", "there", "choice"),
    [
        (["n1"], [], UP, Choice(["n1"])),
        (["n3", "n1"], [], UP, Choice(["n1", "n3"])),
        (["gone", "n1"], [], UP, Choice(["n1"])),
        (["n3", "n1", "n2"], [], UP, Choice(["n1", "n2"], ["n3"])),
        (["n1"], ["n[2-3]"], UP, Choice([], ["n1"])),
        (["n1", "n2"], ["n1"], UP, Choice(["n2"])),
        (["n1"], [], [Node("n1"), Node("n2", is_up=False)], Choice([], ["n1"])),
        (["n1"], [], [Node("n1", is_up=False), Node("n2", is_up=False)], Choice(["n1"])),
        (["n1", "n2"], [], [Node("n1", is_up=False), Node("n2")], Choice(["n1"], ["n2"])),
        (["n1"], [], [], Choice([])),
        (["n1"], ["n1", "n2", "n3"], UP, Choice([])),
    ],
)
def test_one_node_is_always_left_to_a_job(entries, own, there, choice):
    assert choose(listed(*entries), own, there) == choice


@pytest.mark.parametrize(
    ("entries", "there", "choice"),
    [
        (["n3"], UP, Choice(["n3"])),
        (["n3", "n1"], UP, Choice(["n1"], ["n3"])),
        (["n3", "n1", "n2"], UP, Choice(["n2"], ["n3", "n1"])),
        (["n1"], [Node("n1", is_up=False), Node("n2"), Node("n3")], Choice(["n1"])),
        (["n1"], [Node("n1", is_up=False), Node("n2")], Choice([], ["n1"])),
    ],
)
def test_a_job_on_two_nodes_keeps_two(entries, there, choice):
    assert choose(listed(*entries), [], there, wanted=2) == choice


# -- a study ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir(mode=0o700)
    return lambda **more: Scene(tmp_path / "study", **more)


def excluded(scene, name):
    return list(scene.job(name).request.resources.get("exclude_nodes") or ())


def failed_once(scene):
    """The node that failed under the study's first run; the run waits to go on."""
    begun(scene)
    node = scene.job().node
    scene.cluster.fail_node(scene.job().id)
    scene.one_pass()
    return node


def summary(scene):
    return json.loads(scene.study.layout.summary.read_text())


def shown(scene):
    console = new_console()
    found = Summary.from_dict({**summary(scene), "budget": None})
    return "\n".join(str(part) for part in render_status(found, console, None))


def test_a_node_that_failed_under_one_run_is_avoided_by_all_and_shown(make):
    scene = make(steps=40)
    bad = failed_once(scene)
    assert excluded(scene, "one") == [bad], "its own job, which waits to go on"
    scene.enter("two", "three")
    assert excluded(scene, "two") == excluded(scene, "three") == [bad]
    assert json.loads(scene.run("one")["resources"]).get("exclude_nodes") is None, "the list is the study's"
    scene.make_pass()
    [entry] = summary(scene)["avoided_nodes"]
    assert (entry["node"], entry["reason"]) == (bad, "node_fail, run one")
    assert entry["until"] - entry["since"] == 24 * HOUR
    assert f"avoided nodes: {bad} until" in shown(scene)
    assert f"the study avoids node {bad} for 24 h" in "".join(row["text"] for row in scene.rows("events"))


def test_jobs_that_wait_already_do_not_learn_of_a_bad_node_by_failing_there(make):
    scene = make(steps=40)
    scene.cluster.manners = Manners(slots=1)
    cells = [f"cell{number}" for number in range(9)]
    scene.enter(*cells)
    scene.make_pass()
    scene.reach(6, "cell0")
    bad = scene.job("cell0").node
    scene.cluster.fail_node(scene.job("cell0").id)
    told = scene.make_pass()
    assert any(f"avoids {bad}" in line for line in told)
    assert [excluded(scene, cell) for cell in cells] == [[bad]] * 9
    assert len(scene.calls("avoid")) == 9


def test_a_node_is_used_again_once_its_time_is_over(make):
    scene = make(steps=40)
    bad = failed_once(scene)
    scene.cluster.manners = Manners(slots=0)
    scene.enter("two")
    scene.one_pass()
    until = summary(scene)["avoided_nodes"][0]["until"]
    scene.clock.now = until - 1
    scene.one_pass()
    assert excluded(scene, "one") == excluded(scene, "two") == [bad]
    scene.clock.now = until
    scene.one_pass()
    assert excluded(scene, "one") == excluded(scene, "two") == [], "jobs that wait are told of the expiry too"
    assert summary(scene)["avoided_nodes"] == []
    scene.enter("three")
    assert excluded(scene, "three") == []
    assert scene.one_pass() == []


def test_no_node_is_avoided_where_the_policy_says_so(make):
    scene = make(steps=40, exclude_hours=0)
    failed_once(scene)
    scene.enter("two")
    assert excluded(scene, "one") == excluded(scene, "two") == []
    scene.make_pass()
    assert summary(scene)["avoided_nodes"] == []


def test_nodes_are_used_again_once_the_policy_says_so():
    avoidance = Avoidance([Avoided("n1", 100.0, "node_fail")])
    assert avoidance.in_force(Policy(exclude_hours=24), 100.0) == list(avoidance.nodes)
    assert avoidance.in_force(Policy(exclude_hours=0), 100.0) == []


def test_the_last_node_that_is_up_is_used_and_that_is_said(make):
    scene = make(steps=40)
    bad = failed_once(scene)
    scene.cluster.down = {"n1", "n2", "n3", "n4"} - {bad}
    told = scene.one_pass()
    assert any("avoids no failed node" in line for line in told)
    assert excluded(scene, "one") == [], "a job that waits is told"
    scene.enter("two")
    assert excluded(scene, "two") == []
    assert f"it may use {bad}, where a run failed" in scene.rows("events")[-1]["text"]
    scene.make_pass()
    assert summary(scene)["avoided_nodes"][0]["used_in"] == ["default"]
    assert "still used in partition default" in shown(scene)
    scene.cluster.down = set()
    scene.enter("three")
    assert excluded(scene, "three") == [bad]
    scene.make_pass()
    assert summary(scene)["avoided_nodes"][0]["used_in"] == []


def test_the_users_own_list_stays_as_it_is(make):
    scene = make(steps=40)
    scene.enter("one", exclude_nodes=["n4"])
    scene.make_pass()
    scene.reach(6)
    bad = scene.job().node
    scene.cluster.fail_node(scene.job().id)
    scene.make_pass()
    assert excluded(scene, "one") == ["n4", bad]
    assert json.loads(scene.run("one")["resources"])["exclude_nodes"] == ["n4"]
    scene.enter("two")
    assert excluded(scene, "two") == [bad]


def test_a_job_that_sbatch_refuses_because_of_the_list_is_submitted_without_it(make):
    """The only node with a job's own constraint may be the bad one."""
    scene = make(steps=40)
    bad = failed_once(scene)
    submit = scene.cluster.submit

    def particular(request):
        if bad in (request.resources.get("exclude_nodes") or ()):
            raise SubmitRefused("Batch job submission failed: Requested node configuration is not available")
        return submit(request)

    scene.cluster.submit = particular
    sent = scene.enter("two")
    assert sent.outcome == "submitted"
    assert f"it may use {bad}" in sent.said


def test_a_site_that_does_not_say_which_nodes_it_has_takes_jobs_all_the_same(make):
    scene = make(steps=40)
    failed_once(scene)
    nodes_of = scene.cluster.nodes

    def silent(request):
        scene.cluster.silent = True
        try:
            return nodes_of(request)
        finally:
            scene.cluster.silent = False

    scene.cluster.nodes = silent
    scene.enter("two")
    scene.make_pass()
    assert excluded(scene, "two") == []
    assert scene.state("two") == "queued"


def test_a_list_that_an_older_release_kept_for_a_run_is_still_the_runs_own(make):
    scene = make(steps=400)
    bad = failed_once(scene)
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.update_run(scene.run()["id"], resources={"exclude_nodes": ["n4"]})
    scene.go(300)
    scene.cluster.kill(scene.reach(1).id)
    scene.make_pass()
    assert excluded(scene, "one") == ["n4", bad]


def test_the_doctor_names_the_nodes_that_the_study_avoids(make, monkeypatch):
    scene = make(steps=40)
    bad = failed_once(scene)
    monkeypatch.setattr("lvjobs.doctor.places.time.time", scene.clock)

    class Asked:
        study, is_study = scene.study, True

    found = [finding for finding in check_study(Asked) if finding.subject == "nodes"]
    assert [finding.level for finding in found] == ["note"]
    assert f"the study avoids {bad} until" in found[0].what
    scene.clock.now += 24 * HOUR
    assert not [finding for finding in check_study(Asked) if finding.subject == "nodes"]
