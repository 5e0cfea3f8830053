"""The bundled task, `lvjobs.forecasting.train:train`: LoRA fine-tuning on series as text, resumed bit for bit."""

import contextlib
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import load_declared
from lvjobs.forecasting.head import take_numeric_head
from lvjobs.forecasting.learning_rate import schedule
from lvjobs.forecasting.models import add_adapter, compile_layers, compiling, load_adapter, load_base, save_adapter
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.stopping import EarlyStopping
from lvjobs.forecasting.tokens import Characters, prompts_of
from lvjobs.forecasting.validation import ValidationForecasts
from lvjobs.forecasting.windows import (
    IGNORED,
    WindowOrder,
    Windows,
    codec_of,
    numeric_labels,
    training_windows,
    validation_windows,
)
from lvjobs.study.params import TrainingConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.worker import Alone, Resumed, Run, State, Team

SPLIT = "split.json"


def train(run: Run) -> None:
    """Fine-tune by `run.config.params` (a `TrainingConfig`); checkpoint, validate, stop when asked to.

    A first attempt reports the untrained model's validation loss as step 0. At the step of a checkpoint, the validation
    comes first, so that the checkpoint has its loss. Early stopping ends the run at a validation.
    """
    trainer = Trainer(run.config, run.team, run.directory.name)
    if resumed := run.resume():
        trainer.restore(resumed)
    if run.should_stop():  # the request came while the model was loaded
        return
    if not resumed:
        _validate(run, trainer, 0)
    for step in range(run.step + 1, run.config.steps + 1):
        run.log(step, **trainer.step(step))
        if step % run.config.validate_every == 0 or step == run.config.steps:
            _validate(run, trainer, step)
        stop, over = run.should_stop(), trainer.patience.is_over
        if stop or over or run.due(step):
            run.checkpoint(step, trainer.state(), final=over)
        if stop or over:
            return


def _validate(run: Run, trainer: "Trainer", step: int) -> None:
    metrics = trainer.validate()
    if series := len(trainer.forecasts):
        metrics["mae"] = trainer.forecasts.error(trainer.model, trainer.team)
        run.generated(step, series)
    run.validated(step, **metrics)
    trainer.patience.see(metrics.get("mae", metrics[trainer.config.loss_name]))


class Trainer:
    """The state that a step changes, and the data it reads."""

    def __init__(self, run: RunConfig, team: Team | None = None, name: str = "RUN") -> None:
        """Make model, optimizer and data of a run, the same every time (torch's generator is seeded beforehand).

        `name` is the run's name, for messages with the command that resumes the run.

        Raises:
            LvjobsError: the data are not those that the run was declared with, or cannot be used; or the model cannot.
        """
        config = self.config = read_params(TrainingConfig, run.params)
        self.team = team or Alone()
        codec = codec_of(config)
        steps = config.history_steps + config.horizon_steps
        data = load_declared(Path(config.data), config.data_sha256, steps=steps, name=name)
        base, tokenizer = load_base(config)
        table = Characters(tokenizer, config.model, codec)
        pad_id = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
        prompts = prompts_of(config.format, tokenizer, config.model, codec, data.trajectories.shape[-1])
        self.training = training_windows(data, codec, table, config, pad_id, prompts)
        self.validation = validation_windows(data, codec, table, config, pad_id, prompts)
        if config.head == "numeric":
            take_numeric_head(base, table.alphabet)
            self.training, self.validation = (numeric_labels(each, table) for each in (self.training, self.validation))
        self.model = add_adapter(base, config)
        if config.gradient_checkpointing:
            # After the adapter: PEFT would otherwise compute gradients that lead into frozen embeddings.
            checkpoint_layers(self.model.get_base_model())
        if config.compile:
            compile_layers(self.model.get_base_model())
        learning = _learning(self.model)
        self.optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.factor = schedule(config, run.steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.factor)
        self.order = WindowOrder(len(self.training), config.batch_size, run.seed)
        self.patience = EarlyStopping(config.early_stopping_patience, config.early_stopping_delta)
        self.split = training_split(len(data.trajectories), config)
        self.parent = run.parent
        self.forecasts = ValidationForecasts(data, codec, table, config, prompts)

    def step(self, step: int) -> dict[str, float]:
        """Make one update, by all ranks; return the journal's metrics.

        These are the loss (nats per token), the learning rate and the tokens read.

        Raises:
            LvjobsError: the loss is no longer a number.
        """
        batches = [
            self.training.take(self.order.next(), full=self.config.compile) for _ in range(self.config.accumulate)
        ]
        learning_rate = float(self.scheduler.get_last_lr()[0])
        self.model.train()
        # Counted before the backward pass, so that a token weighs the same in a batch of short windows and of long
        # ones.
        count = sum(batch.learnt for batch in batches)
        value = 0.0
        with self._compiling():
            for batch in batches:
                loss = loss_of(self.model, self._share(batch))[0] / count
                loss.backward()  # type: ignore[no-untyped-call]
                value += loss.item()
        if self.team.size > 1:
            value = self._add_up(value)
        if not math.isfinite(value):
            raise LvjobsError(f"the loss is {value} at step {step}: lower the learning rate, or add warm-up steps")
        torch.nn.utils.clip_grad_norm_(_learning(self.model), self.config.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            self.config.loss_name: value,
            "learning_rate": learning_rate,
            "tokens": sum(batch.tokens for batch in batches),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean cross-entropy over the horizon's tokens of the validation windows; nothing is drawn."""
        self.model.eval()
        sums = torch.zeros(4, dtype=torch.float64)  # the loss, labels, batches, tokens
        size = self.config.batch_size
        for start in range(self.team.rank * size, len(self.validation), self.team.size * size):
            rows = np.arange(start, min(start + size, len(self.validation)))
            batch = self.validation.take(rows, full=self.config.compile)
            with self._compiling():
                loss, labels = loss_of(self.model, batch)
            sums += torch.tensor([float(loss), labels, 1, batch.tokens], dtype=torch.float64)
        self.team.add_up(sums)
        total, count, batches, tokens = float(sums[0]), *(int(each) for each in sums[1:])
        return {
            self.config.loss_name: total / count,
            "batches": batches,
            "windows": len(self.validation),
            "tokens": tokens,
        }

    def _share(self, batch: Windows) -> Windows:
        """Return this rank's windows of a batch."""
        return batch.take(np.arange(self.team.rank, len(batch), self.team.size), full=self.config.compile)

    def _add_up(self, value: float) -> float:
        """Sum the gradients over the process group, all at once, and return the sum of `value`.

        Adapters are small and the base model is frozen, so DDP's buckets and hooks would save nothing. A sum of our own
        works with accumulation, rerun layers, packed weights and compiled ones alike.
        """
        weights = _learning(self.model)
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in weights]
        flat = torch.cat([each.flatten() for each in gradients])
        self.team.add_up(flat)
        parts = torch.split(flat, [each.numel() for each in weights])
        for each, gradient in zip(weights, parts, strict=True):
            each.grad = gradient.view_as(each)
        total = torch.tensor([value], dtype=torch.float64)
        self.team.add_up(total)
        return float(total)

    def _compiling(self) -> contextlib.AbstractContextManager[None]:
        return compiling() if self.config.compile else contextlib.nullcontext()

    def state(self) -> State:
        """Return the content of a checkpoint, which is small and never has the base model."""
        return {
            "adapter": partial(save_adapter, self.model),
            "split": self.split.to_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "data": self.order.state(),
            "patience": self.patience.state(),
        }

    def restore(self, resumed: Resumed) -> None:
        """Continue from a checkpoint. Draws nothing: the generators were restored already.

        Raises:
            LvjobsError: its systems were divided in another way, so that validation systems may have been trained on.
        """
        stored = _split_of(resumed)
        if stored and {"validation": [], **stored} != self.split.to_dict():  # the first splits named no validation
            raise LvjobsError(
                f"the checkpoint of step {resumed.step} names other systems than this release would: submit a new run"
            )
        load_adapter(self.model, resumed.directory("adapter"))
        self.optimizer.load_state_dict(resumed.state["optimizer"])
        if self.parent is not None and resumed.step == self.parent.step:
            self._begin_from_parent(resumed)
            return
        self.scheduler.load_state_dict(resumed.state["scheduler"])
        self.order.restore(resumed.state["data"])
        self.patience.restore(resumed.state["patience"])

    def _begin_from_parent(self, resumed: Resumed) -> None:
        """Continue the training of another run, under this run's own schedule, weight decay and patience.

        With settings that give other windows or batches, the order of the windows begins anew.
        """
        for group in self.optimizer.param_groups:
            group.update(initial_lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        # LambdaLR sets the rate of the update after `last_epoch`, as it does after each step.
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.factor, last_epoch=resumed.step - 1)
        if self.order.fits(resumed.state["data"]):
            self.order.restore(resumed.state["data"])
        self.patience.restore(resumed.state["patience"])
        if self.patience.is_over:  # that ended the parent, and is no reason to stop now
            self.patience.waited = 0


def _split_of(resumed: Resumed) -> Any:
    """Return the split that a checkpoint was trained with; older releases wrote a file, and the oldest nothing."""
    if "split" in resumed.state:
        return resumed.state["split"]
    file = resumed.directory("split") / SPLIT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def checkpoint_layers(model: Any) -> None:
    """Have each layer keep its input alone and run again in the backward pass, with the same dropout."""
    # transformers 5.24 warns about the name that 5.0 has.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _learning(model: Any) -> list[Tensor]:
    return [weights for weights in model.parameters() if weights.requires_grad]


def loss_of(model: Any, batch: Windows) -> tuple[Tensor, int]:
    """Return the summed cross-entropy (nats) over the labels that count, and their number."""
    device = next(model.parameters()).device
    ids, attention, labels = (torch.from_numpy(part).to(device) for part in (batch.ids, batch.attention, batch.labels))
    # Packed windows: transformers finds the series by positions that restart, if there is no mask.
    places = (
        {"attention_mask": attention}
        if batch.positions is None
        else {"position_ids": torch.from_numpy(batch.positions).to(device)}
    )
    logits = model(input_ids=ids, **places).logits
    # The labels are shifted, not the logits: a slice of those would be copied, a gigabyte with a large vocabulary.
    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, int((targets != IGNORED).sum())
