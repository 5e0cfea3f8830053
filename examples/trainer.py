"""A Hugging Face Trainer as a task of lvjobs: preempted, killed and resumed, it ends the same (docs/tasks.md)."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import lvjobs


def sequences(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Walks on a circle of 32 tokens, each with a stride of its own."""
    generator = torch.Generator().manual_seed(seed)
    begin, stride = (torch.randint(1, most, (count, 1), generator=generator) for most in (32, 5))
    walks = (begin + stride * torch.arange(16)) % 32
    return [{"input_ids": walk, "labels": walk} for walk in walks]


@lvjobs.task
def train(run: lvjobs.Run) -> None:
    """Learn to go on with a walk of which the first two steps are known."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=48, n_layer=2, n_head=4))
    args = TrainingArguments(
        output_dir=str(run.directory / "trainer"),
        learning_rate=run.config.params["learning_rate"],
        lr_scheduler_type="cosine",
        per_device_train_batch_size=16,
    )
    trainer = Trainer(model, args, train_dataset=sequences(800, seed=0), eval_dataset=sequences(100, seed=1))
    lvjobs.fit(run, trainer)
