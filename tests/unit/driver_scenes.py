"""Simulated clusters and the driver: one whose queue has drivers, and one that refuses them."""

from dataclasses import replace

from control_scenes import Scene

from lvjobs.cluster.protocol import DRIVER, Job, SubmitRefused
from lvjobs.control.backends import driver_token
from lvjobs.control.driver.driver import set_stopped
from lvjobs.control.driver.status import job_lines, report
from lvjobs.report.terminal.plain_lines import driver_lines
from lvjobs.study.tables import Driver


class WithDrivers:
    """The simulated cluster, and jobs in its queue that it does not simulate."""

    def __init__(self, cluster, token):
        self._cluster, self.token = cluster, token
        self.drivers, self.requests, self.error = [], [], None

    def __getattr__(self, name):
        return getattr(self._cluster, name)

    def submit(self, request):
        if request.name != DRIVER:
            return self._cluster.submit(request)
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        self.drivers.append(Job(str(900 + len(self.drivers)), request.token, 0, "PENDING", "Dependency"))
        return self.drivers[-1].id

    def observe(self, tokens, since, companions=()):
        seen = self._cluster.observe(tokens, since)
        if seen.queue is None:
            return seen
        return replace(seen, queue=[*seen.queue, *(job for job in self.drivers if job.token in companions)])

    def cancel(self, job_id):
        self.set(job_id, "CANCELLED") if int(job_id) >= 900 else self._cluster.cancel(job_id)

    def set(self, job_id, state, reason=""):
        self.drivers = [replace(job, state=state, reason=reason) if job.id == job_id else job for job in self.drivers]

    def live(self):
        return [job.id for job in self.drivers if not job.is_ended]


class Driven(Scene):
    """A scene whose study wants a driver."""

    def __init__(self, root, **more):
        super().__init__(root, **{"steps": 150, **more})
        self.declare()
        self.shown = WithDrivers(self.cluster, driver_token(self.study.root))

    def declare(self, **settings):
        config = self.study.config.model_copy(update={"driver": Driver(**settings)})
        self.study = replace(self.study, config=config)

    def stop(self, stopped):
        with self.session() as session:
            set_stopped(session, stopped=stopped)
            session.make_pass()

    def lines(self):
        with self.session() as session:
            shown = report(session)
            return driver_lines(shown, job_lines(shown, self.clock()), self.clock())


class Refusing:
    """The simulated cluster of a site that takes no driver, and may offer scrontab."""

    def __init__(self, cluster, *, scrontab=False):
        self._cluster, self._scrontab = cluster, scrontab

    def __getattr__(self, name):
        return getattr(self._cluster, name)

    def submit(self, request):
        if request.name == DRIVER:
            raise SubmitRefused("jobs without a GPU are not permitted here")
        return self._cluster.submit(request)

    def probe(self):
        return replace(self._cluster.probe(), scrontab=self._scrontab)
