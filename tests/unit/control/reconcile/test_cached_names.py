"""A network file system whose clients remember for a minute that a name was missing.

Listing a directory, and opening a file, show what is there now. So a pass never looks for a name that it has not
listed, and sees claims, orders and done markers of workers on other hosts within its own interval.
"""

import io
import os
from pathlib import Path

import pytest
from control_scenes import Scene, check, make_haste

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
