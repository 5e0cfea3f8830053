"""`lvjobs.fit(run, trainer)`: the ready adapter for Hugging Face's Trainer, in place of `trainer.train()`.

How to train is left to the Trainer; how long, and when to validate, to checkpoint and to leave, is the run's to say.
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
"""What a checkpoint calls the model's files, and so `final/` does."""

_STATE = "trainer_state.json"
_SAVE = "_save_checkpoint"
_NOISE = ("ProgressCallback", "NotebookProgressCallback", "PrinterCallback")
_RIVALS = ("JITCheckpointCallback",)  # takes SIGTERM for itself
_CLOCKS = ("runtime", "_per_second", "_preparation_time")  # no two machines agree on them
_TAKEN = frozenset({"kind", "time", "step", "seconds"})  # the journal has these words for itself
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fit(run: Run, trainer: Trainer) -> TrainOutput:
    """Train as `trainer.train()` would, as a run: logged, validated, checkpointed, resumed bit for bit.

    Its steps, its seed and how often it validates are the run's, whatever the TrainingArguments say; it validates if
    it has an `eval_dataset`. It returns as well when the run has to leave: return then, too. Afterwards the trainer
    has what this attempt did (its `log_history`, say); all that the run did is in the journal.

    Raises:
        LvjobsError: it is one of several processes; or the loss is no longer a number; or a checkpoint does not bring
            back all that was trained.
    """
    _refuse(run, trainer)
    _settle(run.config, trainer)
    determinism.seed_generators(run.config.seed)
    data_seed = trainer.args.data_seed
    draws = Draws(trainer, run.config.seed if data_seed is None else data_seed)
    resumed = run.resume()
    follower = Follower(run, trainer, draws, resumed)
    trainer.add_callback(follower)
    # Its own would save into output_dir, beside and not in the run's checkpoints.
    setattr(trainer, _SAVE, follower.save)
    try:
        return trainer.train(resume_from_checkpoint=str(resumed.directory(PART)) if resumed else None)
    finally:
        trainer.remove_callback(follower)  # what is evaluated from now on is no validation


def _refuse(run: Run, trainer: Trainer) -> None:
    args = trainer.args
    if run.team.size > 1 or args.world_size > 1 or trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        processes = max(run.team.size, args.world_size)
        raise LvjobsError(
            f"lvjobs.fit trains in one process, and this Trainer is one of {processes} (or sharded by DeepSpeed or "
            "FSDP): give the run processes = 1 and the Trainer one GPU, or write the loop as a task (docs/tasks.md)"
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
    """Set what is the run's to say, and nothing else."""
    args = trainer.args
    args.max_steps = config.steps
    args.seed = config.seed
    args.logging_strategy, args.logging_steps = IntervalStrategy.STEPS, 1
    args.logging_nan_inf_filter = False  # it would log a loss that is not a number as 0
    validates = trainer.eval_dataset is not None
    args.eval_strategy = IntervalStrategy.STEPS if validates else IntervalStrategy.NO
    args.eval_steps = config.validate_every
    args.eval_on_start = False
    args.save_strategy = SaveStrategy.NO  # control.should_save alone decides
    args.load_best_model_at_end = False  # the run keeps its best checkpoint itself
    args.push_to_hub = False
    args.ignore_data_skip = False
    args.auto_find_batch_size = False  # it begins again with smaller batches: that would be another run
    args.dataloader_persistent_workers = False  # they go on from an epoch to the next with what they drew
    args.restore_callback_states_from_checkpoint = True
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in (*_NOISE, *_RIVALS):
            trainer.remove_callback(callback)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class Follower(TrainerCallback):
    """Tells the run what the Trainer does, and the Trainer what the run wants. It comes after all other callbacks."""

    def __init__(self, run: Run, trainer: Trainer, draws: Draws, resumed: Resumed | None) -> None:
        self._run = run
        self._trainer: Any = trainer  # whose types allow for None wherever it is not built yet
        self._draws = draws
        self._resumed = resumed
        self._rng = determinism.capture_rng() if resumed else None
        self._unlogged = False
        self._leaving = False
        self._saved = 0
        self._validation: dict[str, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Put back what the Trainer does not read from the model's directory."""
        handler = self._trainer.callback_handler
        handler.callbacks = [*(each for each in handler.callbacks if each is not self), self]
        if self._resumed is not None:
            self._restore(self._resumed)
            self._resumed = None  # its tensors

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Between two epochs the next one's iterator is the first that draws."""
        self._draws.begin(int(state.epoch or 0))
        if float(state.epoch or 0).is_integer():
            self._put_generators_back()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Within an epoch, the data that were trained on already are skipped by now."""
        self._put_generators_back()
        self._report_validation()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        """Each step is logged."""
        control.should_log = self._unlogged = True
        return control

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> TrainerControl:
        """The first after a step is that step's; the others are of validations, and of the training as a whole."""
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
        """Where there are several datasets, one validation is the validation of them all."""
        self._validation |= _metrics(metrics, "eval_")
        return self._decide(control, due=False)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        """Another callback may end the training here."""
        if control.should_training_stop and state.global_step != self._saved:
            control.should_save = True
        return control

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The end of the last validation, if no checkpoint came after it."""
        self._report_validation()

    def save(self, model: Any, trial: Any = None) -> None:
        """A checkpoint, in the place of the Trainer's own; after the validation of the same step.

        Another callback may have ended the training: that goes for the run.
        """
        self._report_validation()
        control, state = self._trainer.control, self._trainer.state
        over = control.should_training_stop and state.global_step < state.max_steps
        self._run.checkpoint(state.global_step, self._state(), final=over)
        self._saved = state.global_step
        # Not before: what others decided has to be told from the run's own leaving.
        control.should_training_stop |= self._leaving

    def _decide(self, control: TrainerControl, *, due: bool) -> TrainerControl:
        self._leaving = self._leaving or self._run.should_stop()
        control.should_save |= due or self._leaving or control.should_training_stop
        return control

    def _report_validation(self) -> None:
        if self._validation:
            self._run.validated(self._trainer.state.global_step, **self._validation)
            self._validation = {}

    def _put_generators_back(self) -> None:
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
        """The model as `from_pretrained` reads it, and where the Trainer stands."""
        trainer = self._trainer
        trainer.save_model(str(directory))
        (directory / "training_args.bin").unlink(missing_ok=True)  # a pickle
        stateful = [each for each in trainer.callback_handler.callbacks if isinstance(each, ExportableState)]
        # Its log grows with every step, and tells the time; the journal has it.
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
    """Its numbers, but for those that a clock gave; without the prefix, and under no name that is taken."""
    metrics: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, numbers.Real) and not isinstance(value, bool) and not key.endswith(_CLOCKS):
            name = key.removeprefix(prefix)
            metrics[f"{PART}_{name}" if name in _TAKEN else name] = value
    return metrics


def _sums(model: torch.nn.Module) -> dict[str, int]:
    """A check sum of every tensor that training changes, where it lies: cheap, and enough to miss one by."""
    kept = model.state_dict().keys()
    changing: dict[str, torch.Tensor] = {name: each for name, each in model.named_parameters() if each.requires_grad}
    changing |= {name: each for name, each in model.named_buffers() if name in kept}
    return {name: _sum(each.detach()) for name, each in changing.items()}


def _sum(tensor: torch.Tensor) -> int:
    whole = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return int(whole.view(_INTEGERS[whole.element_size()]).sum(dtype=torch.int64))
