"""The run interface: all that a training function sees of lvjobs.

    def train(run: Run) -> None:
        model, optimizer, batches = build(run.config)          # the same every time: seeded by lvjobs beforehand
        resumed = run.resume()
        if resumed:
            model.load_state_dict(resumed.state["model"])
            optimizer.load_state_dict(resumed.state["optimizer"])
        for step in range(run.step + 1, run.config.steps + 1):
            loss = one_step(...)
            run.log(step, loss=loss)
            stop = run.should_stop()
            if stop or run.due(step):
                run.checkpoint(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            if stop:
                return

A run is finished when `run.config.steps` was checkpointed and the function returned. It may end earlier: call
`run.checkpoint(step, state, final=True)`, then return. Whatever decides this belongs into the state, so that an attempt
that resumes decides the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, TypeAlias

if TYPE_CHECKING:
    # For type checkers only: this module is loaded before the signal handlers are installed, so it loads nothing heavy.
    from torch import Tensor

    from lvjobs.study.run import RunConfig

Saver: TypeAlias = Callable[[Path], object]
"""A function that writes files into the (new, empty) directory that it is given, such as `model.save_pretrained`."""

State: TypeAlias = Mapping[str, Any]
"""A mapping of names to a `Saver`, or to a tree.

A tree has dicts, lists, tuples, tensors, arrays, numbers, strings, booleans and None.
"""


@dataclass(frozen=True)
class Resumed:
    """A valid checkpoint: `state` has the trees as they were saved, `directory(name)` the files of a Saver.

    The files lie below `path`. They are copies, and are deleted when the attempt ends.
    """

    step: int
    state: Mapping[str, Any]
    path: Path

    def directory(self, name: str) -> Path:
        """Return the directory that the Saver called `name` wrote."""
        return self.path / name


class Team(Protocol):
    """The processes that train one run together, on all nodes of its job, seen from one of them."""

    @property
    def rank(self) -> int:
        """Return the rank of this process, from 0 on."""

    @property
    def size(self) -> int:
        """Return the number of processes; 1 unless the job requested more."""

    def add_up(self, tensor: "Tensor") -> None:
        """Replace the tensor, in every process, by its sum over all of them.

        All processes call this at the same points of the training.

        Raises:
            PeerLost: a process is gone. Do not catch it.
        """


class Run(Protocol):
    """One attempt of one run, seen from the training function."""

    @property
    def config(self) -> "RunConfig":
        """Return the run's immutable configuration."""

    @property
    def step(self) -> int:
        """Return the last step in the checkpoint that this attempt began from (0 in a first attempt)."""

    @property
    def directory(self) -> Path:
        """Return the run directory."""

    @property
    def team(self) -> Team:
        """Return the processes that train this run: each calls the training function with a Run of its own.

        All do the same things in the same order. Each takes its share of each batch (every `size`th window from `rank`
        on) and calls `add_up` on gradients and losses, so that all hold the same weights. Only the first process
        journals and checkpoints. It draws what a process alone would draw; after `resume` each other one draws numbers
        of its own.
        """

    def resume(self) -> Resumed | None:
        """Return the newest valid checkpoint, None in a first attempt; restore the RNGs (Python, numpy, torch, CUDA).

        Call it when everything is built, directly before the first step: all later draws are then those of an
        undisturbed run.
        """

    def log(self, step: int, **metrics: SupportsFloat) -> None:
        """Report that `step` was executed. Call it once per step; the FLOP ledger charges from it.

        Pass `loss`, `learning_rate` and `tokens`; the seconds since the last report are added.

        Raises:
            ValueError: the step is not the next one (steps are consecutive from `run.step + 1` on), or `resume` was not
                called.
        """

    def validated(self, step: int, **metrics: SupportsFloat) -> None:
        """Report a validation at `step`: pass `loss`, `batches` and `tokens`.

        Call it after `log(step)` and before `checkpoint(step)`: the loss decides which checkpoint is the best.
        """

    def generated(self, step: int, series: int, **metrics: SupportsFloat) -> None:
        """Report that `series` series were forecast in `step`. Call it before `log(step)`.

        The FLOP ledger charges forecasts from it, each as often as it was made.
        """

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due at `step`: every `checkpoint_every` steps, and at the last one."""

    def checkpoint(self, step: int, state: State, *, final: bool = False) -> Path:
        """Write a whole checkpoint of `step` (RNG states are added), make it durable, prune old ones; return its path.

        `step` is the last one that was logged. What Savers write in the last checkpoint becomes the run's `final/`.
        `final` completes the run here, though steps are left: no attempt trains it further.

        Raises:
            ValueError: `step` is not the last step that was logged.
            Superseded: a newer generation has claimed the run; nothing was published. Do not catch it.
            LvjobsError: the file system refused; the older checkpoints are untouched. Do not catch it.
        """

    def should_stop(self) -> bool:
        """Return whether this attempt must stop (a signal came, the time limit is near, the run is to be held).

        Once true, it stays true. Then checkpoint the step just ended, and return. Ask once after each step and keep the
        answer: a signal may arrive between two calls. All processes of a group call this at the same points and get the
        same answer.
        """


class SilentRun:
    """A `Run` that reports nothing and writes nothing: the base of those that only take part."""

    def __init__(self, config: "RunConfig", directory: Path, team: Team, step: int = 0) -> None:
        self.config, self.directory, self.team, self.step = config, directory, team, step

    def validated(self, step: int, **metrics: SupportsFloat) -> None:
        """Do nothing."""

    def generated(self, step: int, series: int, **metrics: SupportsFloat) -> None:
        """Do nothing."""

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due at `step`."""
        return step % self.config.checkpoint_every == 0 or step == self.config.steps

    def checkpoint(self, step: int, state: State, *, final: bool = False) -> Path:  # noqa: ARG002 - the interface's
        """Return the run directory."""
        return self.directory
