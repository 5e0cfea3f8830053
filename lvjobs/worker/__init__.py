"""What runs inside a job. `Run` is what a training function sees; everything else serves it."""

from lvjobs.worker.interface import Resumed, Run, Saver, State

__all__ = ["Resumed", "Run", "Saver", "State"]
