"""A small Trainer whose data, collator and dropout draw random numbers."""

import random

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset

EXAMPLES = 14
"""7 batches of 2, accumulated by 2: an epoch has 4 steps, the last of which has one batch."""


class Augmented(Dataset):
    """Tokens, of which each look changes one."""

    def __init__(self, size=EXAMPLES):
        tokens = torch.randint(16, (size, 6), generator=torch.Generator().manual_seed(3))
        self.tokens = list(tokens)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index].clone()
        tokens[random.randrange(6)] = int(np.random.randint(16))  # noqa: NPY002 - the one that libraries draw from
        return {"input_ids": tokens, "labels": tokens}


def masked(examples):
    """A collator that draws, as that of masked language models does."""
    batch = {key: torch.stack([each[key] for each in examples]) for key in examples[0]}
    batch["labels"] = batch["labels"].masked_fill(torch.rand(batch["labels"].shape) < 0.3, -100)
    return batch


def small_model(**more):
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, **more
    )
    return transformers.GPT2LMHeadModel(config)


def small_trainer(directory, *, model=None, kind=None, data=None, callbacks=None, validation="one", **arguments):
    arguments = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, **arguments}
    args = transformers.TrainingArguments(
        output_dir=str(directory / "out"),
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        use_cpu=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    some = list(Augmented(4))
    return (kind or transformers.Trainer)(
        small_model() if model is None else model,
        args,
        data_collator=masked,
        train_dataset=Augmented() if data is None else data,
        eval_dataset={"one": some, "none": None, "two": {"a": some, "b": some[:2]}}[validation],
        callbacks=callbacks,
    )
