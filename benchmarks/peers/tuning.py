"""What benchmarks/training.py and benchmarks/stall.py have in common: models, what their peers read, HF Trainer."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from lvjobs.flops.architecture import Architecture, architecture_of
from lvjobs.flops.measured import model_of
from lvjobs.forecasting import models
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.tokens import Characters
from lvjobs.forecasting.windows import IGNORED, codec_of
from lvjobs.study.params import TrainingConfig

GPU = torch.cuda.is_available()


def clock() -> float:
    """Seconds of the CPU; of the clock where a GPU does the work, once it has done it."""
    if not GPU:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def random_weights(name: str, directory: Path, layers: int | None = None) -> str:
    """What `--model` takes: `tiny`, or a directory with a model of that shape and `tiny`'s tokenizer.

    `layers`: no more than so many, for who only wants to see that it works.
    """
    if name == "tiny":
        return name
    shape = architecture_of(name)
    save_random(replace(shape, layers=min(shape.layers, layers or shape.layers)), directory / name)
    return str(directory / name)


def save_random(
    shape: Architecture, directory: Path, tokenizer: Path = TINY_DIRECTORY, dtype: torch.dtype = torch.float32
) -> None:
    """Write a model with this shape, random weights and a copy of this tokenizer."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    model_of(shape, pad_token_id=0).to(dtype).save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory)


def lora_of(config: TrainingConfig) -> dict[str, Any]:
    """The adapter that lvjobs trains, in PEFT's words."""
    return {"task_type": "CAUSAL_LM", "r": config.lora_rank, "lora_alpha": config.lora_rank,
            "lora_dropout": config.lora_dropout, "target_modules": ["q_proj", "v_proj"]}  # fmt: skip


def cut_chunks(config: TrainingConfig, tokenizer: Any) -> list[Tensor]:
    """One chunk every half length, down to what is left at the end.

    Series by series: with four chunks a series, each batch of four has the same share of padding, so few steps do.
    """
    codec, data, length = codec_of(config), load_dataset(Path(config.data)), config.context_length
    table = Characters(tokenizer, config.model, codec)
    trajectories = data.trajectories[list(training_split(len(data.trajectories), config).train)].astype("float64")
    texts = codec.encode(trajectories, codec.fit(trajectories[:, : config.history_steps]))
    series = [torch.from_numpy(table.encode(text)) for text in texts]
    return [row[at : at + length] for row in series for at in range(0, len(row), length - length // 2)]


def pad(rows: list[Tensor], length: int, *, learnt: bool) -> dict[str, Tensor]:
    """Ids, mask and labels of that length; whether padding is learnt, as in the published study."""

    def fill(parts: list[Tensor], value: int = 0) -> Tensor:
        return torch.stack([torch.nn.functional.pad(part, (0, length - len(part)), value=value) for part in parts])

    mask = fill([torch.ones_like(row) for row in rows])
    return {"input_ids": fill(rows), "attention_mask": mask, "labels": fill(rows, 0 if learnt else IGNORED)}


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Chunks as HF Trainer takes them, which looks for the length of what is called `input_ids`."""

    def __init__(self, chunks: list[Tensor]) -> None:
        self.chunks = chunks

    def __len__(self) -> int:
        """How many."""
        return len(self.chunks)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One of them."""
        return {"input_ids": self.chunks[index]}


class Counting(transformers.Trainer):
    """HF Trainer, with real tokens counted as they are trained on, and seconds of each save."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """As HF Trainer's."""
        super().__init__(*arguments, **more)
        self.real: int | Tensor = 0
        self.saves: list[float] = []

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:
        """Count, then train."""
        self.real = self.real + inputs["attention_mask"].sum()  # no number yet: a GPU would be waited for
        return super().training_step(model, inputs, *rest, **more)

    def _save_checkpoint(self, *arguments: Any, **more: Any) -> None:  # what it does between steps has no public name
        began = time.perf_counter()
        super()._save_checkpoint(*arguments, **more)
        self.saves.append(time.perf_counter() - began)


class Tuned:
    """A PEFT model as lvjobs has it, its chunks, and an HF Trainer for them whenever one is asked for."""

    def __init__(self, config: TrainingConfig, work: Path, *, by_length: bool = False) -> None:
        """Load the model; `by_length`: batches of like length, padded to their longest, instead of to the context."""
        base, tokenizer = models.load_base(config)
        self.config, self.work, self.by_length = config, work, by_length
        self.model = peft.get_peft_model(base, peft.LoraConfig(**lora_of(config)))
        self.chunks = cut_chunks(config, tokenizer)

    def trainer(self, steps: int, watch: transformers.TrainerCallback, **more: Any) -> Counting:
        """Batch, rate and clipping as ours; logs nothing, and saves nothing unless `more` says so."""
        options: dict[str, Any] = {
            "save_strategy": "no",
            "train_sampling_strategy": "group_by_length" if self.by_length else "sequential",
        }
        arguments = transformers.TrainingArguments(
            output_dir=str(self.work), max_steps=steps, per_device_train_batch_size=self.config.batch_size,
            learning_rate=self.config.learning_rate, max_grad_norm=self.config.max_grad_norm, use_cpu=not GPU,
            dataloader_pin_memory=GPU, remove_unused_columns=False, logging_strategy="no", report_to=[],
            logging_nan_inf_filter=False, disable_tqdm=True, **(options | more),
        )  # fmt: skip
        trainer = Counting(
            self.model, arguments, train_dataset=Rows(self.chunks), data_collator=self._collate, callbacks=[watch]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    def _collate(self, batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        rows = [each["input_ids"] for each in batch]
        if self.by_length:
            return pad(rows, max(map(len, rows)), learnt=False)
        return pad(rows, self.config.context_length, learnt=True)
