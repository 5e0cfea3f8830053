"""The adapter for Hugging Face's Trainer: `lvjobs.fit(run, trainer)` in place of `trainer.train()`.

The Trainer decides how to train. The run decides for how long, and when to validate, to checkpoint and to stop.

Around each step the Trainer calls, in this order: on_step_begin, on_step_end, on_log, on_evaluate (once for each
dataset), its `_save_checkpoint`, and at the end of an epoch on_epoch_end.
"""

# ruff: noqa: ARG002 - a callback is called with what the Trainer has

import dataclasses
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, TrainOutput
from transformers.utils import logging

from lvjobs.errors import LvjobsError
from lvjobs.study.run import RunConfig
from lvjobs.worker import determinism
from lvjobs.worker.interface import Resumed, Run, State
from lvjobs.worker.trainer_data import Draws

PART = "trainer"
"""The name of the model's files in a checkpoint, and so in `final/`."""

_STATE = "trainer_state.json"
_SAVE = "_save_checkpoint"
_NOISE = ("ProgressCallback", "NotebookProgressCallback", "PrinterCallback")
_RIVALS = ("JITCheckpointCallback",)  # it handles SIGTERM itself
_CLOCKS = ("runtime", "_per_second", "_preparation_time")  # measured times, which differ between machines
_TAKEN = frozenset({"kind", "time", "step", "seconds"})  # the journal uses these names itself
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fit(run: Run, trainer: Trainer) -> TrainOutput:
    """Train as `trainer.train()` would, as a run: logged, validated, checkpointed, resumed bit for bit.

    The run sets the steps, the seed and how often to validate, whatever the TrainingArguments say. It validates if the
    trainer has an `eval_dataset`. This also returns when the run has to stop: then return, too. Afterwards the trainer
    has what this attempt did (its `log_history`, for example); the journal has all that the run did.

    Raises:
        LvjobsError: the Trainer is one of several processes; or the loss is no longer a number; or a checkpoint does
            not restore all that was trained.
    """
    _refuse(run, trainer)
    _settle(run.config, trainer)
    determinism.seed_generators(run.config.seed)
    data_seed = trainer.args.data_seed
    draws = Draws(trainer, run.config.seed if data_seed is None else data_seed)
    resumed = run.resume()
    follower = Follower(run, trainer, draws, resumed)
    trainer.add_callback(follower)
    # The Trainer's own method would save into output_dir, not into the run's checkpoints.
    setattr(trainer, _SAVE, follower.save)
    try:
        return trainer.train(resume_from_checkpoint=str(resumed.directory(PART)) if resumed else None)
    finally:
        trainer.remove_callback(follower)  # later evaluations are no validations of the run


def _refuse(run: Run, trainer: Trainer) -> None:
    args = trainer.args
    if run.team.size > 1 or args.world_size > 1 or trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        processes = max(run.team.size, args.world_size)
        raise LvjobsError(
            f"lvjobs.fit trains in one process, and this Trainer is one of {processes} (or sharded by DeepSpeed or "
            "FSDP): give the run one process and one GPU, or write the loop as a task (docs/tasks.md)"
        )
    if args.n_gpu > 1:
        raise LvjobsError(
            f"the Trainer found {args.n_gpu} GPUs and would make each batch {args.n_gpu} times as large; a run is the "
            "same wherever it is: let it see one (CUDA_VISIBLE_DEVICES=0)"
        )
    if not hasattr(trainer, _SAVE):
        raise LvjobsError(
            "this release of transformers saves its checkpoints otherwise than lvjobs knows: pin an older"
        )


def _settle(config: RunConfig, trainer: Trainer) -> None:
    """Set the arguments that the run decides, and remove the callbacks that would interfere."""
    settings = {
        "max_steps": config.steps,
        "seed": config.seed,
        "logging_strategy": IntervalStrategy.STEPS,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log a loss that is not a number as 0
        "eval_strategy": IntervalStrategy.NO if trainer.eval_dataset is None else IntervalStrategy.STEPS,
        "eval_steps": config.validate_every,
        "eval_on_start": False,
        "save_strategy": SaveStrategy.NO,  # control.should_save alone decides
        "load_best_model_at_end": False,  # the run keeps its best checkpoint itself
        "push_to_hub": False,
        "ignore_data_skip": False,
        "auto_find_batch_size": False,  # it would begin again with smaller batches, which is another run
        "dataloader_persistent_workers": False,  # they would carry their generators from one epoch to the next
        "restore_callback_states_from_checkpoint": True,
    }
    for name, value in settings.items():
        setattr(trainer.args, name, value)
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in (*_NOISE, *_RIVALS):
            trainer.remove_callback(callback)
    logging.disable_progress_bar()


class Follower(TrainerCallback):
    """A callback that reports the Trainer's steps to the run, and obeys it. It is called after all other callbacks."""

    def __init__(self, run: Run, trainer: Trainer, draws: Draws, resumed: Resumed | None) -> None:
        self._run = run
        self._trainer: Any = trainer  # the Trainer's types allow None for everything that is built later
        self._draws = draws
        self._resumed = resumed
        self._rng = determinism.capture_rng() if resumed else None
        self._unlogged = False
        self._leaving = False
        self._saved = 0
        self._validation: dict[str, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Restore what the Trainer does not read from the model's directory."""
        handler = self._trainer.callback_handler
        handler.callbacks = [*(each for each in handler.callbacks if each is not self), self]
        if self._resumed is not None:
            self._restore(self._resumed)
            self._resumed = None  # frees its tensors

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Restore the generators between two epochs, before the next epoch's iterator draws."""
        self._draws.begin(int(state.epoch or 0))
        if float(state.epoch or 0).is_integer():
            self._restore_generators()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Restore the generators within an epoch, after the batches that were trained on already are skipped."""
        self._restore_generators()
        self._report_validation()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        """Request a log of each step."""
        control.should_log = self._unlogged = True
        return control

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> TrainerControl:
        """Log the first call after a step as that step; later calls are about validations, or the whole training."""
        if not self._unlogged:
            return control
        self._unlogged = False
        step, metrics = state.global_step, _metrics(logs, "")
        metrics.pop("epoch", None)
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise LvjobsError(
                f"the loss is {metrics['loss']} at step {step}: lower the learning rate, or add warm-up steps"
            )
        self._run.log(step, **metrics)
        return self._decide(control, due=self._run.due(step))

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> TrainerControl:
        """Collect the metrics; with several datasets, one validation covers them all."""
        self._validation |= _metrics(metrics, "eval_")
        return self._decide(control, due=False)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        """Save if another callback ends the training here."""
        if control.should_training_stop and state.global_step != self._saved:
            control.should_save = True
        return control

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Report the last validation if no checkpoint came after it."""
        self._report_validation()

    def save(self, model: Any, trial: Any = None) -> None:
        """Write a checkpoint in place of the Trainer's own, after the validation of the same step.

        If another callback has ended the training, the run ends too.
        """
        self._report_validation()
        control, state = self._trainer.control, self._trainer.state
        over = control.should_training_stop and state.global_step < state.max_steps
        self._run.checkpoint(state.global_step, self._state(), final=over)
        self._saved = state.global_step
        # Not earlier: a stop that other callbacks decided must be distinguished from the run's own.
        control.should_training_stop |= self._leaving

    def _decide(self, control: TrainerControl, *, due: bool) -> TrainerControl:
        self._leaving = self._leaving or self._run.should_stop()
        control.should_save |= due or self._leaving or control.should_training_stop
        return control

    def _report_validation(self) -> None:
        if self._validation:
            self._run.validated(self._trainer.state.global_step, **self._validation)
            self._validation = {}

    def _restore_generators(self) -> None:
        if self._rng is not None:
            determinism.restore_rng(self._rng)
            self._rng = None

    def _state(self) -> State:
        trainer = self._trainer
        scaler = trainer.accelerator.scaler
        return {
            PART: self._write,
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.lr_scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "sums": _sums(trainer.model),
        }

    def _write(self, directory: Path) -> None:
        """Write the model in the format of `from_pretrained`, and the Trainer's state."""
        trainer = self._trainer
        trainer.save_model(str(directory))
        (directory / "training_args.bin").unlink(missing_ok=True)  # it is a pickle
        stateful = [each for each in trainer.callback_handler.callbacks if isinstance(each, ExportableState)]
        # The log grows with every step and holds times, and the journal has it already.
        state = dataclasses.replace(trainer.state, log_history=[], stateful_callbacks=stateful)
        state.save_to_json(str(directory / _STATE))

    def _restore(self, resumed: Resumed) -> None:
        trainer = self._trainer
        trainer.optimizer.load_state_dict(resumed.state["optimizer"])
        trainer.lr_scheduler.load_state_dict(resumed.state["scheduler"])
        if trainer.accelerator.scaler is not None and resumed.state["scaler"] is not None:
            trainer.accelerator.scaler.load_state_dict(resumed.state["scaler"])
        saved, loaded = resumed.state["sums"], _sums(trainer.model)
        lost = sorted(name for name in saved.keys() | loaded.keys() if saved.get(name) != loaded.get(name))
        if lost:
            raise LvjobsError(
                f"{resumed.directory(PART)} does not bring back what was trained: {len(lost)} tensors are not what "
                f"they were, such as {lost[0]}. What the Trainer's save_model leaves out is lost at every checkpoint"
            )


def _metrics(found: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the numbers except measured times, without the prefix, and renamed if the journal uses the name."""
    metrics: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, numbers.Real) and not isinstance(value, bool) and not key.endswith(_CLOCKS):
            name = key.removeprefix(prefix)
            metrics[f"{PART}_{name}" if name in _TAKEN else name] = value
    return metrics


def _sums(model: torch.nn.Module) -> dict[str, int]:
    """Return a checksum of every tensor that training changes, on its device: cheap, but enough to find a lost one."""
    kept = model.state_dict().keys()
    changing: dict[str, torch.Tensor] = {name: each for name, each in model.named_parameters() if each.requires_grad}
    changing |= {name: each for name, each in model.named_buffers() if name in kept}
    return {name: _sum(each.detach()) for name, each in changing.items()}


def _sum(tensor: torch.Tensor) -> int:
    whole = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return int(whole.view(_INTEGERS[whole.element_size()]).sum(dtype=torch.int64))
