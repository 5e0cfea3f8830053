"""The peer of benchmarks/startup.py and scale.py, run by the Python of an environment that has no lvjobs.

    python benchmarks/peers/resume_hf.py JOB [FOLDER]

JOB is a JSON file: the model's directory, the file of chunks, the rank, the batch, and where to write. HF Trainer on a
PEFT model; it resumes where there is a checkpoint, and else makes one after two steps. Each step is told in a line.
With `last`, it trains so many steps, saves as often as `save` says, keeps two, logs each step, and saves the model.
With FOLDER it is a job of submitit's, whose files are there.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments


class Chunks(torch.utils.data.Dataset[Any]):
    """Chunks that were tokenised and padded before."""

    def __init__(self, path: str) -> None:
        """Read ids, attention and labels: (3, chunks, tokens)."""
        self.parts = torch.from_numpy(np.load(path))

    def __len__(self) -> int:
        """How many."""
        return int(self.parts.shape[1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One of them."""
        ids, attention, labels = self.parts[:, index]
        return {"input_ids": ids, "attention_mask": attention, "labels": labels}


class Telling(TrainerCallback):
    """A line for each step: when it ended, and how many seconds it took."""

    def __init__(self, path: Path) -> None:
        """Into this file."""
        self.path, self.began = path, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """It begins."""
        self.began = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It is done."""
        line = {"kind": "step", "time": time.time(), "seconds": time.monotonic() - self.began}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def train(path: str) -> None:
    """Train until somebody kills it, or to its last step."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    output = Path(job["output"])
    resumes = any(output.glob("checkpoint-*"))
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="sdpa")
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=job["rank"],
        lora_alpha=job["rank"],
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj"],
    )
    options = TrainingArguments(
        output_dir=str(output),
        max_steps=job.get("last", 10**6),
        per_device_train_batch_size=job["batch"],
        save_strategy="no" if resumes else "steps",
        save_steps=job.get("save", 2),
        save_total_limit=2,
        logging_strategy="steps" if "last" in job else "no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    trainer = Trainer(get_peft_model(base, lora), options, train_dataset=Chunks(job["chunks"]))
    trainer.add_callback(Telling(Path(job["steps"])))
    trainer.train(resume_from_checkpoint=resumes or None)
    trainer.save_model()


def main() -> None:
    """Here, or in a job of submitit's."""
    if len(sys.argv) > 2:  # noqa: PLR2004
        import submitit

        submitit.AutoExecutor(folder=sys.argv[2], cluster="local").submit(train, sys.argv[1]).result()
    else:
        train(sys.argv[1])


if __name__ == "__main__":
    main()
