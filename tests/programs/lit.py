"""Training with Lightning: a ModelCheckpoint every few steps, metrics in a CSV file, ckpt_path to resume."""

import argparse
import time
from pathlib import Path

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("out"))
    parser.add_argument("--max_steps", type=int, default=50)
    parser.add_argument("--save_every", type=int, default=10)
    parser.add_argument("--ckpt_path", metavar="PATH")
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    parser.add_argument("--step_seconds", type=float, default=0.0, help="time added to each step")
    return parser.parse_args()


class Net(LightningModule):
    """A small network that learns the sine of a sum."""

    def __init__(self, lr, step_seconds):
        super().__init__()
        self.lr, self.step_seconds = lr, step_seconds
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def training_step(self, batch, _index):
        time.sleep(self.step_seconds)
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.layers(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def main():
    options = arguments()
    seed_everything(7)
    inputs = torch.randn(320, 16)
    data = TensorDataset(inputs, torch.sin(inputs.sum(1, keepdim=True)))
    trainer = Trainer(
        accelerator="cpu",
        max_steps=options.max_steps,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=CSVLogger(options.dir, flush_logs_every_n_steps=1),
        callbacks=[ModelCheckpoint(options.dir, every_n_train_steps=options.save_every, save_top_k=-1)],
    )
    trainer.fit(
        Net(options.learning_rate, options.step_seconds),
        DataLoader(data, batch_size=16, shuffle=True),
        ckpt_path=options.ckpt_path,
    )


if __name__ == "__main__":
    main()
