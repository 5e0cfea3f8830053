"""What runs inside a job. `Run` is what a training function sees; everything else serves it."""

from lvjobs.worker.interface import Resumed, Run, Saver, State, Team
from lvjobs.worker.signals import shielded
from lvjobs.worker.team import Alone

__all__ = ["Alone", "Resumed", "Run", "Saver", "State", "Team", "shielded"]
