"""A study with a limit of GPU-hours, on a simulated cluster that keeps its own record of what jobs held."""

from collections import Counter
from dataclasses import replace

import pytest
from control_scenes import Scene, make_haste
from simulator.engine import Manners

HOUR = 3600.0
ASKED = {"gpus": 2, "time_limit": "01:00:00"}
RUN = 2 * HOUR
SLOW = {"steps": 400, "every": 20}


def held_by_run(scene):
    """The GPU-seconds that jobs ever held, by the cluster's own record, by the name of the job's first run."""
    found = Counter()
    requests = {job.request.token: job.request for job in scene.cluster.jobs}
    ended = [(row.token, row.member, row.elapsed) for _, row in scene.cluster.rows if row.elapsed]
    live = [job for job in scene.cluster.jobs if job.start is not None and job.end is None]
    for token, member, seconds in ended + [
        (job.request.token, job.member, scene.clock.now - job.start) for job in live
    ]:
        found[requests[token].run_directories[member].name] += seconds * int(requests[token].resources["gpus"])
    return found


def held(scene):
    """The GPU-seconds that all jobs ever held."""
    return held_by_run(scene).total()


class Counted(Scene):
    """A scene whose jobs ask for GPUs, and that looks at every sbatch whether the limit allows it."""

    def __init__(self, root, **options):
        super().__init__(root, **options)
        self.worker.is_timed = True
        submit = self.cluster.submit

        def look(request):
            bound, mine = self.study.config.budget.gpu_hours, held_by_run(self)
            names = {row["id"]: row["name"] for row in self.rows("runs")}
            reserved = {names[row["run_id"]]: row["gpu_seconds"] for row in self.rows("reservations")}
            ahead = sum(max(0, seconds - mine[name]) for name, seconds in reserved.items())
            assert bound is None or mine.total() + ahead <= bound * HOUR + 1, "a job starts that the limit forbids"
            return submit(request)

        self.cluster.submit = look

    def hours(self):
        """GPU-seconds spent, reserved and free."""
        with self.session() as session, session.ledger.transaction() as transaction:
            books = session.books(transaction)
            full = session.full_books(transaction)
        assert books.gpu_seconds == pytest.approx(full.gpu_seconds, abs=len(full.accounts)), "closed runs differ"
        return *books.gpu_seconds, books.room.gpu_seconds

    params = None
    """Those of each run; None: each has its own."""

    def wanted(self, *names, **resources):
        request = super().wanted(*names, **resources)
        if self.params is None:
            return request
        return replace(request, configs=[each.model_copy(update={"params": self.params}) for each in request.configs])

    def submit(self, *names, **resources):
        return self.enter(*names, **{**ASKED, **resources})


def make_scene(root, monkeypatch):
    """Return a function that makes the scene, given its limit."""
    make_haste(monkeypatch)

    def scene(gpu_hours, slots=4, **options):
        renew = options.pop("renew", True)
        budget = {"limit": 10**17, "gpu_hours": gpu_hours, "renew": renew}
        return Counted(root, manners=Manners(slots=slots), budget=budget, **options)

    return scene
