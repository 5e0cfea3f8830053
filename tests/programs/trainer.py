"""A script for the Trainer of Hugging Face, as its users write it: checkpoint-N, PATH to resume, the model at the end."""

import argparse
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

LETTERS = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--max_steps", type=int, default=20)
    parser.add_argument("--save_steps", type=int, default=5)
    parser.add_argument("--save_total_limit", type=int)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--resume_from_checkpoint", metavar="PATH")
    parser.add_argument("--jit", action="store_true", help="save on SIGTERM, then end the training")
    parser.add_argument("--step_seconds", type=float, default=0.0, help="time added to each step")
    return parser.parse_args()


class Slowly(TrainerCallback):
    """A callback that makes each step longer."""

    def __init__(self, seconds):
        self.seconds = seconds

    def on_step_end(self, *_, **__):
        time.sleep(self.seconds)


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    config = GPT2Config(
        vocab_size=LETTERS, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    letters = torch.cumsum(torch.randint(3, (256, 32), generator=torch.Generator().manual_seed(0)) * 5 + 1, 1) % LETTERS
    settings = TrainingArguments(
        output_dir=options.output_dir,
        max_steps=options.max_steps,
        save_steps=options.save_steps,
        save_total_limit=options.save_total_limit,
        learning_rate=options.learning_rate,
        seed=options.seed,
        logging_steps=1,
        per_device_train_batch_size=8,
        dataloader_pin_memory=False,
        report_to="none",
        use_cpu=True,
        enable_jit_checkpoint=options.jit,
    )
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=settings,
        train_dataset=[{"input_ids": row, "labels": row} for row in letters],
        callbacks=[Slowly(options.step_seconds)],
    )
    trainer.train(resume_from_checkpoint=options.resume_from_checkpoint)
    trainer.save_model()


if __name__ == "__main__":
    main()
