"""Whatever happens, in whatever order: in the end each run is trained once, and all that was spent is accounted for."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from control_crashes import Instants
from control_scenes import STEPS, Scene, make_haste, shared_by
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

NAMES = ("one", "two", "three")
RUN = 1600
"""FLOPs that are reserved for a run: 12 steps and an interval of 4, of 100 each."""


class Killed(BaseException):
    """The command died."""


class Study(RuleBasedStateMachine):
    """Runs, a cluster that misbehaves, users that meddle, and commands that die half-way."""

    def __init__(self):
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        make_haste(self.patches)
        self.root = Path(tempfile.mkdtemp())
        self.scene = Scene(self.root, backoff_seconds=5)
        self.meant = set()
        """Runs that the user cancelled, or whose jobs."""

    def teardown(self):
        try:
            self.heal_and_end()
        finally:
            self.patches.undo()
            shutil.rmtree(self.root)

    # -- commands -----------------------------------------------------------------------------------------------

    @initialize(
        names=st.sampled_from([NAMES[:1], NAMES[:2], NAMES]),
        spare=st.sampled_from([0, 400, 10**6]),
        shared=st.sampled_from([{}, {}, {"pack": 2}, {"pack": 3, "side_by_side": 2}]),
    )
    def enter(self, names, spare, shared):
        self.scene.bind(limit=RUN * len(names) + spare)
        self.scene.enter(*names, **shared)

    @rule(flops=st.integers(1, 2 * RUN * len(NAMES)))
    def the_limit_is(self, flops):
        self.scene.bind(limit=flops)

    @rule(seconds=st.sampled_from([0, 3, 35, 130]))
    def a_pass(self, seconds):
        self.scene.cluster.advance(seconds)
        self.scene.one_pass()

    @rule(at=st.integers(1, 20))
    def a_pass_that_dies(self, at):
        def die(name):
            raise Killed(name)

        # under the lease, whose claim ends with a process, and this one lives on
        with self.scene.session() as session, pytest.MonkeyPatch.context() as patches:
            Instants(at, die).watch(self.scene, patches.setattr)
            with suppress(Killed):
                session.make_pass()
            self.scene.shown = self.scene.cluster

    @rule(name=st.sampled_from(NAMES))
    def cancel(self, name):
        if self.exists(name):
            self.meant.add(name)
            self.scene.cancel(name)

    @rule(name=st.sampled_from(NAMES))
    def resume_runs(self, name):
        if self.exists(name):
            self.scene.resume_runs(name)

    # -- fates of jobs ------------------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds):
        self.scene.cluster.advance(seconds)

    @rule(
        fate=st.sampled_from(["kill", "preempt", "fail_node", "fail_launch", "hold_launch", "cancel"]),
        name=st.sampled_from(NAMES),
        orphan=st.sampled_from([0, 5, 40]),
    )
    def a_job_meets(self, fate, name, orphan):
        alive = self.scene.alive(name)
        if not alive or (fate == "cancel" and self.scene.cluster.silent):
            return
        if fate == "cancel":
            self.meant.update(shared_by(alive[-1]) or [name])
        more = {"orphan_steps": orphan} if fate == "fail_node" else {}
        getattr(self.scene.cluster, fate)(alive[-1].id, **more)

    @rule(name=st.sampled_from(NAMES))
    def its_worker_of_a_shared_job_is_killed(self, name):
        self.scene.worker.killed.add(name)

    @rule(name=st.sampled_from(NAMES), faulty=st.booleans())
    def code(self, name, faulty):
        self.scene.worker.failing.pop(name, None)
        if faulty:
            self.scene.worker.failing[name] = 7

    # -- the site -----------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(["lost", "vanished", "deferred", "refused"]))
    def sbatch_will_say(self, fault):
        self.scene.cluster.submit_faults.append(fault)

    @rule(silent=st.booleans())
    def the_scheduler(self, silent):
        self.scene.cluster.silent = silent

    @rule(accounting=st.sampled_from(["on", "on", "off", "dead"]))
    def the_accounting(self, accounting):
        self.scene.cluster.accounting = accounting

    @precondition(lambda self: not self.scene.cluster.orphans)
    @rule()
    def the_scheduler_forgets_all(self):
        self.scene.cluster.forget()

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_trained_twice_at_once(self):
        assert not self.scene.worker.overlaps

    @invariant()
    def only_the_user_cancels(self):
        assert {row["name"] for row in self.scene.rows("runs") if row["state"] == "cancelled"} <= self.meant

    def exists(self, name):
        return any(row["name"] == name for row in self.scene.rows("runs"))

    def heal_and_end(self):
        scene = self.scene
        scene.cluster.silent, scene.cluster.accounting = False, "on"
        scene.cluster.submit_faults.clear()
        scene.worker.failing.clear()
        scene.worker.killed.clear()
        scene.bind(limit=10**6)
        names = [row["name"] for row in scene.rows("runs")]
        for _ in range(40):
            scene.cluster.advance(65)
            scene.one_pass()
            scene.resume_runs(*[name for name in names if scene.state(name) == "held"])
            if all(scene.state(name) in ("completed", "cancelled") for name in names) and not scene.is_busy():
                break
        scene.make_pass()
        self.only_the_user_cancels()
        for name in names:
            assert scene.state(name) in ("completed", "cancelled")
            assert not scene.alive(name)
            finished = scene.files(name).done.exists()
            assert finished == (scene.state(name) == "completed")
            if finished:
                assert scene.spent(name)["useful"] == STEPS


TestStudy = Study.TestCase
TestStudy.settings = settings(
    max_examples=20,
    stateful_step_count=18,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
