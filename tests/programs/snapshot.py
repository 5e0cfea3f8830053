"""Training on one or several processes as in minGPT-ddp: snapshot.pt in place, resumed where it exists."""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--save_every", type=int, default=1)
    parser.add_argument("--snapshot_path", type=Path, default=Path("snapshot.pt"))
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--epoch_seconds", type=float, default=0.0, help="time added to each epoch")
    parser.add_argument("--gates", type=Path, help="wait after an epoch while a file here has its number")
    parser.add_argument("--padding_mb", type=int, default=0, help="size added to a snapshot")
    return parser.parse_args()


def random_states(world):
    """Return the state of each rank's generator."""
    states = [torch.get_rng_state()] * world
    if world > 1:
        dist.all_gather_object(states, torch.get_rng_state())
    return states


def train(options, rank, world):
    torch.manual_seed(rank)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 16, generator=generator)
    data = TensorDataset(inputs, torch.sin(inputs.sum(1, keepdim=True)))
    sampler = DistributedSampler(data, num_replicas=world, rank=rank)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate)
    epochs_run = 0
    if options.snapshot_path.exists():
        snapshot = torch.load(options.snapshot_path)
        net.load_state_dict(snapshot["model"])
        optimizer.load_state_dict(snapshot["optimizer"])
        epochs_run = snapshot["epoch"]
        torch.set_rng_state(snapshot["random"][rank])
        print(f"[rank {rank}] resuming from the snapshot at epoch {epochs_run}")
    state = torch.get_rng_state()
    model = nn.parallel.DistributedDataParallel(net) if world > 1 else net
    torch.set_rng_state(state)
    for epoch in range(epochs_run + 1, options.epochs + 1):
        sampler.set_epoch(epoch)
        for batch, targets in DataLoader(data, batch_size=32, sampler=sampler):
            loss = nn.functional.mse_loss(model(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        time.sleep(options.epoch_seconds)
        if rank == 0:
            print(f"epoch {epoch} loss {loss.item():.6f}")
        while options.gates and (options.gates / str(epoch)).exists():
            time.sleep(0.02)
        if epoch % options.save_every == 0 or epoch == options.epochs:
            states = random_states(world)
            if rank == 0:
                snapshot = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                padding = torch.zeros(options.padding_mb * 2**18)
                torch.save(snapshot | {"random": states, "padding": padding}, options.snapshot_path)


def main():
    options = arguments()
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    train(options, rank, world)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
