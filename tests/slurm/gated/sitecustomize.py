"""Lets the bundled training wait at gates, too: each Python process loads this module as it starts.

`Study.gate` puts this directory on the workers' path. Gate 0 lies before the model is loaded.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "unit"))

from toy_task import wait_at_gate

from lvjobs.worker.attempt import Attempt

may_begin, log = Attempt.may_begin, Attempt.log


def may_begin_after_gate(self):
    wait_at_gate(self, 0, self.must_stop)
    return may_begin(self)


def log_after_gate(self, step, **metrics):
    wait_at_gate(self, step, self.must_stop)
    log(self, step, **metrics)


Attempt.may_begin, Attempt.log = may_begin_after_gate, log_after_gate
