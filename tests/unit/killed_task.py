"""The bundled training, killed by itself (SIGKILL) in the step that KILL_AT names: after its update, before its checkpoint."""

import os
import signal

from lvjobs.forecasting import train as bundled


class Killed:
    """The run, as the training sees it."""

    def __init__(self, run):
        self._run, self._at = run, int(os.environ.get("KILL_AT", "0"))

    def __getattr__(self, name):
        return getattr(self._run, name)

    def log(self, step, **metrics):
        self._run.log(step, **metrics)
        if step == self._at and self._run.team.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train(run):
    bundled.train(Killed(run))
