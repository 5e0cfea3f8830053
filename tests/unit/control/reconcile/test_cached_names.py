"""A network file system whose clients remember for a minute that a name was missing.

Listing a directory, and opening a file, show what is there now. So a pass never looks for a name that it has not
listed, and sees claims, orders and done markers of workers on other hosts within its own interval.
"""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from control_scenes import STEPS, Scene, begun, check, make_haste

from lvjobs.control.reconcile import observe, run_commands
from lvjobs.ledger.storage import NETWORK_SECONDS

REMEMBERED_SECONDS = 60.0


class CachingClient:
    """A host whose `stat` and `open` of a name below `root` fail for a while after the name was once missing."""

    def __init__(self, root, clock):
        self.root, self.clock, self.missed = str(root), clock, {}
        self.blinded = 0

    def wrap(self, function):
        def seen(path, *arguments, **more):
            name = os.fspath(path) if not isinstance(path, int) else ""
            if not name.startswith(self.root):
                return function(path, *arguments, **more)
            places = [name, *(str(parent) for parent in Path(name).parents if str(parent).startswith(self.root))]
            for place in places:
                if self.clock.now - self.missed.get(place, -1e9) < REMEMBERED_SECONDS:
                    self.blinded += os.path.lexists(place)
                    raise FileNotFoundError(2, "No such file or directory (remembered)", place)
            try:
                return function(path, *arguments, **more)
            except FileNotFoundError:
                first = next(place for place in reversed(places) if not os.path.lexists(place))
                self.missed[first] = self.clock.now
                raise

        return seen


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A scene, and the host of its passes; workers are on other hosts and see the server itself."""
    make_haste(monkeypatch)
    scene = Scene(tmp_path, steps=12)
    client = CachingClient(scene.study.layout.checkpoints, scene.clock)
    real = {name: getattr(os, name) for name in ("stat", "open", "listdir", "scandir")}

    def one_pass():
        with monkeypatch.context() as patch:
            for name, function in real.items():
                patch.setattr(os, name, client.wrap(function))
            patch.setattr(io, "open", client.wrap(io.open))
            with scene.session() as session:
                session.make_pass()

    return scene, client, one_pass


def test_a_pass_sees_a_claim_and_a_done_marker_at_once(client):
    scene, host, one_pass = client
    scene.enter("one", "two")
    one_pass()
    one_pass()
    scene.cluster.advance(2)
    one_pass()
    assert [row["generation"] for row in scene.rows("attempts")] == [1, 1]
    scene.cluster.advance(20)
    one_pass()
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert host.blinded == 0, "it looked for a name before that was listed"
    check(scene)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A run that trains, in a study on a network file system."""
    make_haste(monkeypatch)
    monkeypatch.setattr(observe, "unseen_seconds", lambda _directory: NETWORK_SECONDS)
    return begun(Scene(tmp_path))


def test_a_killed_run_is_judged_once_its_last_lines_must_be_seen(scene):
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert (scene.state(), len(scene.jobs())) == ("running", 1)
    assert "not visible on this host yet" in scene.run()["reason"]
    scene.go(int(NETWORK_SECONDS) + 15)
    assert scene.causes()[0] == "killed"
    assert len(scene.jobs()) == 2


def test_a_run_that_says_how_it_ended_is_judged_at_once(scene):
    scene.worker.failing["one"] = 10
    scene.cluster.advance(10)
    scene.make_pass()
    assert (scene.state(), scene.causes()) == ("held", ["code_error"])


def test_a_done_marker_counts_once_all_steps_are_seen(scene, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(observe, "read_from", lambda _path, _offset: b"")
        scene.cluster.advance(20)
        with scene.session() as session:
            session.make_pass()
    assert scene.files().done.exists()
    assert (scene.state(), scene.spent()["useful"] < STEPS) == ("running", True)
    scene.make_pass()
    assert (scene.state(), scene.spent()) == ("completed", {"useful": STEPS})


def test_a_journal_that_was_damaged_holds_up_nothing(scene):
    scene.cluster.advance(20)
    os.truncate(scene.files().journal(1), scene.rows("attempts")[0]["journal_offset"])
    for seconds, state in ((0, "running"), (NETWORK_SECONDS, "completed")):
        scene.cluster.advance(seconds)
        with scene.session() as session:
            session.make_pass()
        assert scene.state() == state


def test_what_a_cancelled_run_did_last_is_charged(scene, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(observe, "read_from", lambda _path, _offset: b"")
        scene.cluster.advance(2)
        with scene.session() as session:
            run_commands.cancel(session, ["one"])
            session.make_pass()
    scene.make_pass()
    scene.go(int(NETWORK_SECONDS) + 15)
    assert (scene.state(), scene.causes()) == ("cancelled", ["cancelled"])
    assert sum(scene.spent().values()) == scene.worker.executed["one"]


def test_what_the_orphan_of_a_cancelled_run_did_is_charged(tmp_path, monkeypatch):
    """The run was cancelled before a pass saw that its node had failed."""
    make_haste(monkeypatch)
    scene = begun(Scene(tmp_path))
    scene.worker.deaf.add("one")
    scene.cluster.fail_node(scene.job().id, orphan_steps=4)
    scene.cancel("one")
    scene.go(30)
    assert (scene.state(), scene.causes()) == ("cancelled", ["node_fail"])
    spent = scene.spent()
    assert sum(spent.values()) - 2 * spent["estimated"] == scene.worker.executed["one"]


def test_a_clock_that_is_ahead_holds_up_nothing(scene):
    """The worker's host says that the run was done in an hour."""
    scene.cluster.advance(20)
    os.truncate(scene.files().journal(1), scene.rows("attempts")[0]["journal_offset"])
    done = observe.read_done(scene.files())
    scene.files().done.write_text(replace(done, time=scene.clock.now + 3600).to_json())
    with scene.session() as session:
        session.make_pass()
    assert scene.state() == "completed"
