"""Fine-tuning against HF Trainer + PEFT: real tokens a second, on the same model, data and machine, one thread.

    python benchmarks/training.py [--steps 20] [--repetitions 5] [--context-length 512] [--model both] [--smoke]

The peer begins a chunk every half context and pads each to the context length, as the published study did. Two models:
the bundled `tiny`, and a wider one with Qwen2.5's vocabulary of 151,936 and random weights, where the head is what a
step costs. Ours is measured as it comes, with packed windows, and with packed windows and the numeric head (another
objective: its loss compares with none of the others). Real tokens are those that are no padding; seconds are of the
CPU, so that what else runs on the machine does not count; the figure is the median of alternating repetitions.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import alternate, command_line, print_table

from lvjobs.forecasting import models
from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.tokenizer import Characters
from lvjobs.forecasting.train import build
from lvjobs.forecasting.windows import codec_of
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TRAIN_TASK, TrainingConfig

VOCABULARY = 151_936
_GOALS = {"lvjobs": "1.3", "lvjobs, packed, numeric head": "1.8"}
Repetition = Callable[[], float]
"""Trains some steps; real tokens a second."""


def wide_vocabulary(directory: Path) -> Path:
    """A Qwen2 with few layers and all of Qwen2.5's logits; `tiny`'s tokenizer knows the first 18 of them."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(models.TINY_DIRECTORY).save_pretrained(directory)
    return directory


def ours(params: dict[str, Any], steps: int) -> Repetition:
    """What a run does between two checkpoints, without its journal."""
    run = RunConfig(task=TRAIN_TASK, steps=10**6, params=params)
    torch.manual_seed(run.seed)
    trainer = build(run)
    step = 0

    def repeat() -> float:
        nonlocal step
        began, tokens = time.process_time(), 0.0
        for _ in range(steps):
            step += 1
            tokens += trainer.step(step)["tokens"]
        return tokens / (time.process_time() - began)

    return repeat


class Chunks(torch.utils.data.Dataset):
    """Chunks padded to the context length, in the form that HF Trainer takes."""

    def __init__(self, series: list[Any], length: int) -> None:
        """One every half length, down to what is left at the end; padding is trained on, as it was."""
        self.rows = []
        for start in range(0, len(series[0]), length - length // 2):
            for row in series:
                ids = torch.from_numpy(row[start : start + length])
                padding = (0, length - len(ids))
                padded = torch.nn.functional.pad(ids, padding)
                mask = torch.nn.functional.pad(torch.ones_like(ids), padding)
                self.rows.append({"input_ids": padded, "attention_mask": mask, "labels": padded.clone()})

    def __len__(self) -> int:
        """How many chunks."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One of them."""
        return self.rows[index]


def peer(params: dict[str, Any], steps: int, work: Path) -> Repetition:
    """HF Trainer on a PEFT model of the same rank, targets, batch and rate; it saves and logs nothing."""
    from peft import LoraConfig, get_peft_model

    config = TrainingConfig(**params)
    codec, data = codec_of(config), load_dataset(Path(config.data))
    base, tokenizer = models.load_base(config)
    table = Characters(tokenizer, config.model, codec)
    trajectories = data.trajectories[list(training_split(len(data.trajectories), config).train)].astype("float64")
    texts = codec.encode(trajectories, codec.fit(trajectories[:, : config.history_steps]))
    chunks = Chunks([table.encode(text) for text in texts], config.context_length)
    lora = LoraConfig(task_type="CAUSAL_LM", r=config.lora_rank, lora_alpha=config.lora_rank, lora_dropout=0.05,
                      target_modules=["q_proj", "v_proj"])  # fmt: skip
    model = get_peft_model(base, lora)

    class Counting(transformers.Trainer):
        real = 0

        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> torch.Tensor:
            Counting.real += int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *rest, **more)

    def repeat() -> float:
        options = transformers.TrainingArguments(
            output_dir=str(work / "peer"), max_steps=steps, per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate, save_strategy="no", logging_strategy="no", report_to=[],
            use_cpu=not torch.cuda.is_available(), disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Counting(model=model, args=options, train_dataset=chunks)
        trainer.remove_callback(transformers.PrinterCallback)
        Counting.real = 0
        began = time.process_time()
        trainer.train()
        return Counting.real / (time.process_time() - began)

    return repeat


def compare(name: str, params: dict[str, Any], options: argparse.Namespace, work: Path) -> list[list[str]]:
    """Rows: tokens a second, and how often the peer's."""
    kinds = {
        "HF Trainer + PEFT, padded": peer(params, options.steps, work),
        "lvjobs": ours(params, options.steps),
        "lvjobs, packed": ours({**params, "packing": True}, options.steps),
        "lvjobs, packed, numeric head": ours({**params, "packing": True, "head": "numeric"}, options.steps),
    }
    for repeat in kinds.values():  # what is done once is not measured
        repeat()
    median = alternate(kinds, options.repetitions)
    base = next(iter(median.values()))
    return [[name, kind, f"{rate:.0f}", f"{rate / base:.2f}", _GOALS.get(kind, "")] for kind, rate in median.items()]


def main() -> None:
    """Read the command line, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--model", choices=["both", "tiny", "wide"], default="both")
    options = parser.parse_args()
    if options.smoke:
        options.steps, options.repetitions, options.model = 1, 1, "tiny"
    torch.set_num_threads(1)
    rows = []
    warnings.filterwarnings("ignore", category=FutureWarning)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_dataset(work / "data.h5", systems=40, seed=0)
        shared = {"data": str(work / "data.h5"), "context_length": options.context_length, "batch_size": 4}
        if options.model in ("both", "tiny"):
            rows += compare("tiny", shared, options, work)
        if options.model in ("both", "wide"):
            rows += compare("151,936 logits", {**shared, "model": str(wide_vocabulary(work / "model"))}, options, work)
    note = (
        f"Peer: transformers {transformers.__version__}. Context {options.context_length}, batch 4, rank 4, one "
        f"thread; real tokens a second of CPU, medians of {options.repetitions}."
    )
    print_table(["model", "way", "tokens/s", "ratio", "goal"], rows, [note])


if __name__ == "__main__":
    main()
