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
            if run.due(step) or run.should_stop():
                run.checkpoint(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            if run.should_stop():
                return

A run is finished when `run.config.steps` was checkpointed and the function returned. It may end sooner: by
`run.checkpoint(step, state, final=True)`, and then returning. What decides that belongs into the state, so that an
attempt which resumes decides the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, TypeAlias

if TYPE_CHECKING:
    # For the types alone: this module is loaded before the signal handlers are in place, so it loads nothing heavy.
    from torch import Tensor

    from lvjobs.study.run import RunConfig

Saver: TypeAlias = Callable[[Path], object]
"""Writes files of its own into the (new, empty) directory it is given, such as `model.save_pretrained`."""

State: TypeAlias = Mapping[str, Any]
"""Name -> a `Saver`, or a tree of dicts, lists, tuples, tensors, arrays, numbers, strings, booleans and None."""


@dataclass(frozen=True)
class Resumed:
    """A valid checkpoint: `state` has the trees as they were given, `directory(name)` the files of a Saver."""

    step: int
    state: Mapping[str, Any]
    path: Path

    def directory(self, name: str) -> Path:
        """The directory that the Saver called `name` wrote."""
        return self.path / name


class Team(Protocol):
    """The processes that train one run together, on one node, as each of them sees it."""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0 on."""

    @property
    def size(self) -> int:
        """How many they are; 1 unless the job asked for more."""

    def add_up(self, tensor: "Tensor") -> None:
        """Replace the tensor, in every process, by its sum over all of them.

        All call it at the same points of the training.

        Raises:
            PeerLost: one of them is gone. Let it pass.
        """


class Run(Protocol):
    """One attempt of one run, from the training function's side."""

    @property
    def config(self) -> "RunConfig":
        """The run's immutable configuration."""

    @property
    def step(self) -> int:
        """The last step that is safe in a checkpoint this attempt began from (0 in a first attempt)."""

    @property
    def directory(self) -> Path:
        """The run directory."""

    @property
    def team(self) -> Team:
        """Who trains this run: every process calls the training function, each with a Run of its own.

        All do the same things in the same order. Each takes its share of each batch (every `size`th window from `rank`
        on) and `add_up`s gradients and losses, so that all hold the same weights. Only the first process journals and
        checkpoints. It draws what a process alone would draw; each other one draws numbers of its own after `resume`.
        """

    def resume(self) -> Resumed | None:
        """The newest valid checkpoint, or None in a first attempt; restores the RNGs (Python, numpy, torch, CUDA).

        Call it when everything is built and directly before the first step: what is drawn afterwards is what an
        undisturbed run would have drawn.
        """

    def log(self, step: int, **metrics: SupportsFloat) -> None:
        """Report that `step` was executed. Call it once a step; it is what the FLOP ledger charges from.

        Pass `loss`, `learning_rate` and `tokens`; the seconds since the last report are added. Steps are consecutive
        from `run.step + 1` on: anything else is a mistake in the training function and raises ValueError.
        """

    def validated(self, step: int, **metrics: SupportsFloat) -> None:
        """Report a validation at `step`: pass `loss`, `batches` and `tokens`.

        Call it after `log(step)` and before `checkpoint(step)`: the loss decides which checkpoint is the best.
        """

    def generated(self, step: int, series: int, **metrics: SupportsFloat) -> None:
        """Report that `series` series were forecast in `step`. Call it before `log(step)`.

        It is what forecasts are charged from, each as often as it was made.
        """

    def due(self, step: int) -> bool:
        """Whether a checkpoint falls on `step`: every `checkpoint_every` steps, and the last one."""

    def checkpoint(self, step: int, state: State, *, final: bool = False) -> Path:
        """Write a whole checkpoint of `step` (RNG states are added), make it durable, prune old ones; return its path.

        `step` is the last one that was logged. What Savers write in the last checkpoint becomes the run's `final/`.
        `final` ends the run here, completed, though steps are left: no attempt trains it any further.

        Raises:
            Superseded: a newer generation has claimed the run; nothing was published. Let it pass.
            LvjobsError: the file system refused; the older checkpoints are untouched. Let it pass.
        """

    def should_stop(self) -> bool:
        """Whether this attempt must leave (a signal came, the time limit is near, the run is to be held).

        Once true it stays true. Then: checkpoint the step just ended, and return. All processes of a team ask at the
        same points, and get the same answer.
        """
