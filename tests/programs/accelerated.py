"""Training with accelerate as in its complete_nlp_example: epoch_E or step_N, read from the name on a resume."""

import argparse
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path())
    parser.add_argument("--checkpointing_steps", help="epoch, or a number of steps")
    parser.add_argument("--resume_from_checkpoint", type=Path, metavar="PATH")
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    parser.add_argument("--step_seconds", type=float, default=0.0, help="time added to each step")
    return parser.parse_args()


def loaders():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(384, 16, generator=generator)
    labels = (inputs.sum(1) > 0).long()
    held_out = TensorDataset(inputs[320:], labels[320:])
    return DataLoader(TensorDataset(inputs[:320], labels[:320]), 16, shuffle=True), DataLoader(held_out, 32)


@torch.no_grad()
def accuracy(accelerator, model, loader):
    model.eval()
    right = [accelerator.gather_for_metrics(model(inputs).argmax(1) == labels) for inputs, labels in loader]
    return torch.cat(right).float().mean().item()


def place(path, length):
    """Return the epoch and the number of its steps that a checkpoint's name stands for."""
    kind, _, number = path.name.partition("_")
    return (int(number) + 1, 0) if kind == "epoch" else divmod(int(number), length)


def main():
    options = arguments()
    accelerator = Accelerator()
    set_seed(42)
    train, held_out = loaders()
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, len(train) * options.num_epochs)
    model, optimizer, train, held_out, scheduler = accelerator.prepare(model, optimizer, train, held_out, scheduler)
    first, done, step = 0, 0, 0
    if options.resume_from_checkpoint:
        accelerator.print(f"Resumed from checkpoint: {options.resume_from_checkpoint}")
        accelerator.load_state(str(options.resume_from_checkpoint))
        first, done = place(options.resume_from_checkpoint, len(train))
        step = first * len(train) + done
    every = int(options.checkpointing_steps) if str(options.checkpointing_steps).isdigit() else None
    for epoch in range(first, options.num_epochs):
        model.train()
        for inputs, labels in accelerator.skip_first_batches(train, done) if epoch == first and done else train:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            time.sleep(options.step_seconds)
            step += 1
            if every and step % every == 0:
                accelerator.save_state(str(options.output_dir / f"step_{step}"))
        accelerator.print(f"epoch {epoch}:", {"accuracy": accuracy(accelerator, model, held_out), "loss": loss.item()})
        if options.checkpointing_steps == "epoch":
            accelerator.save_state(str(options.output_dir / f"epoch_{epoch}"))
    accelerator.end_training()


if __name__ == "__main__":
    main()
