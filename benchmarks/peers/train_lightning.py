"""The Lightning peer of benchmarks/training.py, run by the Python of an environment that has no lvjobs.

    python benchmarks/peers/train_lightning.py JOB

JOB is a JSON file: the model's directory, the file of chunks, and how to train. The model is loaded once; then each
line on stdin is answered by one on stdout: real tokens a second of so many steps.
"""

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
import transformers
from peft import LoraConfig, get_peft_model


def clock() -> float:
    """Seconds of the CPU; of the clock where a GPU does the work, once it has done it."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Tuning(lightning.LightningModule):
    """The adapted model, AdamW; what was read, and when."""

    def __init__(self, model: torch.nn.Module, rate: float) -> None:
        """Keep both."""
        super().__init__()
        self.model, self.rate = model, rate
        self.real, self.began, self.ended = 0, 0.0, 0.0

    def training_step(self, batch: dict[str, torch.Tensor], _index: int) -> torch.Tensor:
        """The model's own loss."""
        self.real += int(batch["attention_mask"].sum())
        loss: torch.Tensor = self.model(**batch).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of what learns."""
        learning = [weights for weights in self.parameters() if weights.requires_grad]
        return torch.optim.AdamW(learning, lr=self.rate, weight_decay=0.0)

    def on_train_start(self) -> None:
        """Everything is set up."""
        self.real, self.began = 0, clock()

    def on_train_end(self) -> None:
        """All steps are made."""
        self.ended = clock()


def prepare(job: dict[str, Any]) -> tuple[Tuning, torch.utils.data.DataLoader[dict[str, torch.Tensor]]]:
    """The module and its data: the chunks in the order in which HF Trainer takes them."""
    base = transformers.AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"]), attn_implementation="sdpa"
    )
    base.config.use_cache = False
    model = get_peft_model(base, LoraConfig(**job["lora"]))
    chunks: dict[str, torch.Tensor] = torch.load(job["chunks"], weights_only=True)
    rows = [{key: values[index] for key, values in chunks.items()} for index in range(len(chunks["input_ids"]))]
    gpu = torch.cuda.is_available()
    return Tuning(model, job["rate"]), torch.utils.data.DataLoader(rows, batch_size=job["batch"], pin_memory=gpu)  # type: ignore[arg-type]


def main() -> None:
    """Train as often as one is asked to."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    module, loader = prepare(job)
    for _ in sys.stdin:
        # `barebones`: without all that Lightning itself says may cost time.
        trainer = lightning.Trainer(
            max_steps=job["steps"], accelerator="auto", devices=1, barebones=True, gradient_clip_val=job["clip"],
            default_root_dir=Path(sys.argv[1]).parent,
        )  # fmt: skip
        trainer.fit(module, loader)
        print(module.real / (module.ended - module.began), file=answers, flush=True)


if __name__ == "__main__":
    main()
