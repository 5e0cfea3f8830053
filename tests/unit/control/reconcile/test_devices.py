"""Devices that fail, and attempts that go on with other packages or on another device, on a simulated cluster."""

import pytest
from control_builders import NOW, a_run, an_attempt
from control_scenes import Scene, begun, make_haste

from lvjobs.control.reconcile.classify import Failure, classify
from lvjobs.control.reconcile.journal_fold import fold
from lvjobs.control.reconcile.policy import Verdict, verdict
from lvjobs.control.recovery.check import check
from lvjobs.records.journal import Entry
from lvjobs.study.tables import Policy
from lvjobs.study.words import Breakdown, Cause, RunState

ECC = "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir(mode=0o700)
    return lambda **more: Scene(tmp_path / "study", **more)


def drawn_to(scene, node):
    """A node on which jobs die at once is always free, and is given to the next one."""
    start = scene.cluster._start

    def start_there(job):
        scene.cluster._next_node = int(node.removeprefix("n"))
        start(job)

    scene.cluster._start = start_there


def test_a_node_whose_device_fails_is_avoided(make, fault):
    scene = begun(make(steps=40))
    broken = scene.job().node
    scene.worker.broken[broken] = ECC
    drawn_to(scene, broken)
    told = []
    while scene.state() != "completed":
        scene.cluster.advance(15)
        told += scene.one_pass()
        assert scene.clock.now < 1.7e9 + 1e4
    assert scene.causes() == ["killed", "completed"]
    assert [job.node == broken for job in scene.jobs()] == [True, False]
    assert scene.job().request.resources["exclude_nodes"] == [broken]
    (line,) = [line for line in told if "killed" in line]
    assert f"a device failed on node {broken}: AcceleratorError: CUDA error: uncorrectable ECC error" in line
    assert "might be asynchronously" not in line
    fault("device_error", scene, saw=line)


def test_a_device_that_fails_on_every_node_holds_the_run(make, fault):
    scene = begun(make(steps=40))
    scene.worker.broken = dict.fromkeys(("n1", "n2", "n3", "n4"), ECC)
    scene.go(400)
    assert scene.state() == "held"
    assert len({job.node for job in scene.jobs()}) == len(scene.jobs()) == Policy().no_progress_deaths + 1, (
        "the first had a checkpoint"
    )
    fault("device_error", scene)


def test_an_error_that_may_be_the_codes_holds_the_run_at_once(make):
    scene = begun(make(steps=40))
    scene.worker.broken = {scene.job().node: "CUDA error: an illegal memory access was encountered"}
    scene.go(30)
    assert (scene.state(), scene.causes()) == ("held", ["code_error"])


def journaled(**fields):
    entry = Entry("error", NOW, {"type": "RuntimeError", "message": ECC, "traceback": "...", "step": 7, **fields})
    return fold(an_attempt(step=7), [entry], 10, NOW)


@pytest.mark.parametrize("fields", [{"breakdown": "device", "device": True}, {"device": True}])
def test_the_evidence_names_the_node_and_the_error(fields):
    """Workers of earlier releases write `device` alone."""
    attempt = journaled(**fields, node="gpu-3")
    death = classify(attempt, None)
    assert death == Failure(
        Cause.KILLED,
        "a device failed on node gpu-3: RuntimeError: CUDA error: uncorrectable ECC error encountered; last step 7",
    )
    assert (attempt.failed_node, attempt.has_last_word, attempt.traceback) == ("gpu-3", True, "...")
    later = fold(attempt, [Entry("died", NOW, {"status": 1})], 10, NOW)
    assert classify(later, None) == death, "the process that started it has less to tell"


def test_without_a_name_from_slurm_no_node_is_avoided():
    attempt = journaled(device=True, node="")
    assert classify(attempt, None).cause is Cause.KILLED
    assert attempt.failed_node == ""
    assert classify(journaled(), None).cause is Cause.CODE_ERROR


def test_a_run_that_raised_an_error_of_its_own_and_then_died_is_a_code_error():
    attempt = fold(journaled(), [Entry("died", NOW, {"status": -11})], 10, NOW)
    assert classify(attempt, None).cause is Cause.CODE_ERROR


def after(*nodes, gained=True, run=None):
    ended = [
        an_attempt(
            n, cause=Cause.KILLED, error="x", died=Breakdown.DEVICE, failed_node=node, checkpoint_step=250 * gained
        )
        for n, node in enumerate(nodes, start=1)
    ]
    return verdict(run or a_run(), ended, Failure(Cause.KILLED, "seen"), Policy(), NOW)


def test_it_is_counted_as_kills_are():
    assert after("n1", run=a_run(resources={"exclude_nodes": ["n7"]})) == Verdict(), "the list is the study's"
    assert after("n1", "n2").not_before - NOW == Policy().backoff_seconds
    assert after("n1", "n2", "n3", "n4", "n5", "n6").state is RunState.HELD
    assert after("n1", "n2", "n3", gained=False).state is RunState.HELD
    assert after("") == Verdict()


# -- what an attempt runs with ---------------------------------------------------------------------------------------

BEFORE = {"torch": "2.12.0", "numpy": "2.4.6", "device": "NVIDIA A100-SXM4-80GB"}


def notes(scene):
    checked = check(scene.study, 5)
    assert checked.is_fine
    return [each.what for each in checked.findings if each.subject == "one"]


def resumed(scene, **versions):
    """A run that went on after a death with these versions instead."""
    scene.worker.versions = BEFORE
    begun(scene)
    scene.cluster.kill(scene.job().id)
    scene.worker.versions = {**BEFORE, **versions}
    scene.go(60)
    assert scene.causes() == ["killed", "completed"]
    return scene


@pytest.mark.parametrize(
    ("key", "versions"), [("versions", {"torch": "2.13.0"}), ("device_changed", {"device": "NVIDIA H100 80GB HBM3"})]
)
def test_what_is_another_at_the_next_attempt_is_told(make, fault, key, versions):
    scene = resumed(make(), **versions)
    (note,) = notes(scene)
    ((name, new),) = versions.items()
    assert note.startswith(f"attempt 2 continued with {name} {new}, where attempt 1 had {name} {BEFORE[name]}: ")
    assert "no longer, bit for bit" in note
    fault(key, scene, saw=f"`lvjobs ledger check`: {note}")


def test_of_the_same_nothing_is_told(make):
    assert notes(resumed(make())) == []


def test_an_attempt_that_began_anew_is_compared_with_none(make):
    scene = make(steps=40, every=20)
    scene.worker.versions = BEFORE
    begun(scene, taken=3)
    scene.worker.versions = {"torch": "2.13.0", "newer": "1"}
    scene.cluster.kill(scene.job().id)
    scene.go(150)
    assert scene.causes() == ["killed", "completed"]
    assert notes(scene) == [], "it executed all steps itself"


def test_journals_of_earlier_releases_had_no_device(make):
    scene = make()
    scene.worker.versions = {"torch": "2.12.0"}
    begun(scene)
    scene.worker.versions = BEFORE
    scene.cluster.kill(scene.job().id)
    scene.go(60)
    assert notes(scene) == []
