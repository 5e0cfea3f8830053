"""A command that is killed at any instant whatever: the next ones bring each run to its end, by one job, spending once."""

import os

import pytest
from control_crashes import dying
from control_scenes import Scene, make_haste
from driver_scenes import Driven, WithDrivers
from rebuild_scenes import rebuilt, rows
from stage_scenes import FIRST, REQUEST, SECOND, Sweep

from lvjobs.control.backends import driver_token
from lvjobs.control.driver.driver import MOST
from lvjobs.control.recovery.check import check
from lvjobs.control.session import held_study
from lvjobs.errors import UsageError
from lvjobs.ledger import copies

pytestmark = pytest.mark.slow

__all__ = ["dying"]  # a fixture: die_everywhere

STEPS = 3


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    return Scene(tmp_path / "study", steps=STEPS, every=1)


def recover(scene, names):
    """Passes, as the user's next commands make them (the first at once), until every run rests."""
    scene.one_pass()
    for _ in range(12):
        scene.cluster.advance(35)
        scene.one_pass()
        if all(scene.state(name) in ("completed", "cancelled", "held") for name in names) and not scene.is_busy():
            return


def submit(scene, *names):
    """As `lvjobs submit` does."""
    with scene.session() as session:
        scene.enter_in(session, *names)
        session.make_pass()


@pytest.mark.parametrize(("names", "interrupted"), [(["one"], False), (["one", "two"], False), (["one"], True)])
def test_a_submission_that_is_killed(scene, names, interrupted, fault, die_everywhere):
    for instant, left in die_everywhere(scene, lambda scene: submit(scene, *names), interrupted=interrupted):
        if not left.rows("runs"):
            left.enter(*names)  # the user types it again
        recover(left, names)
        for name in names:
            assert left.state(name) == "completed", instant
            assert left.worker.executed[name] == STEPS, instant
            assert len(left.jobs(name)) == 1, instant
            assert left.spent(name) == {"useful": STEPS}, instant
        fault("interrupted" if interrupted else "killed_submitting", left)


def killed(scene):
    scene.cluster.kill(scene.job().id)


def preempted(scene):
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)


def failed_to_launch(scene):
    scene.cluster.hold_launch(scene.job().id)


@pytest.mark.parametrize(
    ("death", "jobs", "interrupted"),
    [(killed, 2, False), (preempted, 1, False), (failed_to_launch, 1, False), (killed, 2, True)],
)
def test_a_pass_that_is_killed(scene, death, jobs, interrupted, fault, die_everywhere):
    scene.enter("one")
    scene.reach(1)
    scene.one_pass()
    death(scene)
    for instant, left in die_everywhere(scene, Scene.one_pass, interrupted=interrupted):
        recover(left, ["one"])
        assert left.state() == "completed", instant
        assert left.worker.executed["one"] == STEPS, instant
        assert len(left.jobs()) == jobs, instant
        assert left.causes().count("completed") == 1, instant
        assert len(left.causes()) == len(set(left.causes())), instant
        fault("interrupted" if interrupted else "killed_passing", left)


def test_a_cancellation_that_is_killed(scene, fault, die_everywhere):
    scene.enter("one")
    scene.reach(1)
    scene.one_pass()
    for instant, left in die_everywhere(scene, lambda scene: scene.cancel("one")):
        if left.state() != "cancelled":
            left.cancel("one")  # the user types it again
        taken = left.worker.executed["one"]
        recover(left, ["one"])
        assert left.state() == "cancelled", instant
        assert left.worker.executed["one"] == taken, instant
        assert len(left.jobs()) == 1, instant
        fault("killed_cancelling", left)


# -- stages ---------------------------------------------------------------------------------------------------------

STAGES = (
    FIRST.model_copy(update={"grid": {"lora_rank": [2, 4]}}),
    SECOND.model_copy(update={"grid": {"context_length": [32]}}),
)
ASKED = REQUEST.model_copy(update={"train": {**REQUEST.train, "steps": STEPS, "checkpoint_every": 1}})


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    scene = Sweep(tmp_path / "study", *STAGES)
    scene.losses["first-r4"] = 0.1
    return scene


def ask(scene, *names):
    """As `lvjobs sweep` does."""
    return scene.ask(*names, request=ASKED)


def is_swept(scene, instant, *names):
    """Passes until the stages are decided: each cell was trained once, by one job."""
    scene.one_pass()
    for _ in range(8):
        scene.cluster.advance(35)
        scene.one_pass()
        if set(scene.stands(*names)) == {"completed"}:
            break
    assert set(scene.stands(*names)) == {"completed"}, instant
    assert scene.winner("first").startswith("first-r4-"), instant
    cells = sorted(cell for name in names for cell in scene.cells(name))
    assert len(cells) == len(names) + 1, instant
    assert sorted(row["name"] for row in scene.rows("runs")) == scene.jobs_made() == cells, instant
    for name in cells:
        assert scene.worker.executed[name] == STEPS, instant
        assert scene.spent(name) == {"useful": STEPS}, instant


@pytest.mark.parametrize("again", [False, True], ids=["typed again where nothing came of it", "typed again"])
def test_a_sweep_that_is_killed(sweep, fault, again, die_everywhere):
    for instant, left in die_everywhere(sweep, lambda sweep: ask(sweep, "first")):
        if again or not any(row["state"] != "declared" for row in left.rows("stages")):
            ask(left, "first")
        is_swept(left, instant, "first")
        fault("killed_sweeping", left)


def test_a_pass_that_is_killed_while_it_decides_a_stage_and_begins_the_next(sweep, fault, die_everywhere):
    ask(sweep)
    sweep.cluster.advance(STEPS + 2)
    for instant, left in die_everywhere(sweep, Sweep.one_pass):
        is_swept(left, instant, "first", "second")
        fault("killed_sweeping", left)


# -- the driver -----------------------------------------------------------------------------------------------------


class Drivers(WithDrivers):
    """The driver's jobs, one after the other: they depend on one another (singleton)."""

    def __setstate__(self, state):
        self.__dict__.update(state)

    def turn(self):
        """The first that waits runs where none does."""
        if "RUNNING" not in [job.state for job in self.drivers] and self.live():
            self.set(self.live()[0], "RUNNING")


@pytest.fixture
def driven(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    scene = Driven(tmp_path / "study", steps=STEPS, every=1)
    scene.shown = Drivers(scene.cluster, driver_token(scene.study.root))
    return scene


def is_driven_to_its_end(scene, instant):
    """Passes of whichever driver runs, until nothing is left; then it ends by itself."""
    for _ in range(12):
        scene.shown.turn()
        scene.one_pass()
        assert len(scene.shown.live()) <= MOST, instant
        if scene.state() == "completed" and not scene.is_busy():
            break
        assert scene.shown.live(), instant
        scene.cluster.advance(35)
    assert scene.state() == "completed", instant
    assert scene.worker.executed["one"] == STEPS, instant
    (last,) = scene.shown.live()
    scene.shown.set(last, "COMPLETED")
    scene.one_pass()
    assert scene.shown.live() == [], instant


def test_a_pass_that_is_killed_while_it_makes_drivers(driven, fault, die_everywhere):
    for instant, left in die_everywhere(driven, lambda scene: submit(scene, "one")):
        if not left.rows("runs"):
            left.enter("one")
        left.one_pass()
        is_driven_to_its_end(left, instant)
        assert len(left.shown.drivers) == MOST, instant
        assert len(left.jobs()) == 1, instant
        fault("killed_driving", left)


def test_a_driver_that_is_killed(driven, fault, die_everywhere):
    """While it sees to a run that was killed too. The one that is on standby goes on, and makes another that is on
    standby."""
    driven.enter("one")
    driven.reach(1)
    driven.one_pass()
    driven.shown.turn()
    killed(driven)
    for instant, left in die_everywhere(driven, Scene.one_pass):
        left.shown.set("900", "NODE_FAIL")
        is_driven_to_its_end(left, instant)
        assert len(left.shown.drivers) == MOST + 1, instant
        assert len(left.jobs()) == 2, instant
        fault("killed_driving", left)


# -- the ledger as a file -------------------------------------------------------------------------------------------

FILES = [(os, "close"), (copies, "examine")]


def back_up(scene, name="copy"):
    """As `lvjobs ledger backup copy` does."""
    with held_study(scene.study, wait=5):
        copies.back_up(scene.study.layout.database, scene.study.root / name)


def read(path):
    """All rows of a ledger that is whole."""
    assert copies.examine(path).is_current
    return path.read_bytes()


def test_a_backup_that_is_killed(scene, die_everywhere):
    scene.enter("one")
    scene.reach(1)
    scene.one_pass()
    before, bytes_before = scene.dump(), read(scene.study.layout.database)
    finished = 0
    for instant, left in die_everywhere(scene, back_up, also=FILES):
        assert read(left.study.layout.database) == bytes_before, instant
        copy = left.study.root / "copy"
        if copy.exists():
            finished += 1
            with pytest.raises(UsageError, match="exists"):
                back_up(left)
        else:
            back_up(left)
        assert copies.examine(copy).is_current, instant
        left.study.layout.database.write_bytes(copy.read_bytes())
        assert left.dump() == before, instant
    assert finished
    recover(left, ["one"])
    assert left.state() == "completed"


def test_a_rebuild_that_is_killed(scene, die_everywhere):
    scene.enter("one")
    scene.reach(1)
    killed(scene)
    scene.one_pass()
    before, bytes_before = rows(scene), read(scene.study.layout.database)
    gone = 0
    for instant, left in die_everywhere(scene, lambda scene: rebuilt(scene, aside=True), also=FILES):
        ledger = left.study.layout.database
        aside = list(left.study.root.glob("runs.db.*.aside"))
        whole = [path.read_bytes() for path in [*aside, *([ledger] if ledger.exists() else [])]]
        assert bytes_before in whole, f"{instant}: the old ledger is lost"
        if not ledger.exists():
            gone += 1
            with pytest.raises(UsageError, match="lvjobs ledger rebuild"):
                left.one_pass()
        left.clock.now += 1  # the user types it again
        rebuilt(left, aside=True)
        assert rows(left) == before, instant
        assert check(left.study, 5).is_fine, instant
        recover(left, ["one"])
        assert left.state() == "completed", instant
        assert left.worker.executed["one"] == STEPS, instant
        assert len(left.jobs()) == 2, instant
    assert gone
