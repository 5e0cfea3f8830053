"""A classifier of pictures that is trained as in pytorch/examples imagenet: epochs, checkpoint.pth.tar in place."""

import argparse
import shutil
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 10


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dummy", action="store_true", help="accepted: the pictures are always noise")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--start-epoch", type=int, default=0)
    parser.add_argument("-b", "--batch-size", type=int, default=16)
    parser.add_argument("--lr", "--learning-rate", type=float, default=0.1, dest="lr")
    parser.add_argument("-p", "--print-freq", type=int, default=1)
    parser.add_argument("--resume", default="", metavar="PATH")
    parser.add_argument("--seed", type=int, help="without it, two trainings differ")
    parser.add_argument("--batch-seconds", type=float, default=0.0, help="time added to each batch")
    return parser.parse_args()


def pictures(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.randn(count, 3, 16, 16, generator=generator)
    return TensorDataset(noise + labels.reshape(-1, 1, 1, 1) / CLASSES, labels)


def train(loader, model, optimizer, epoch, options):
    model.train()
    total, start = 0.0, time.time()
    for index, (images, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(options.batch_seconds)
        total += loss.item()
        if index % options.print_freq == 0:
            took, mean = (time.time() - start) / (index + 1), total / (index + 1)
            times = f"Time {took:6.3f} ({took:6.3f})"
            print(f"Epoch: [{epoch}][{index + 1:3d}/{len(loader)}]\t{times}\tLoss {loss.item():.4e} ({mean:.4e})")


@torch.no_grad()
def validate(loader, model):
    model.eval()
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    accuracy = 100 * right / len(loader.dataset)
    print(f" *   Acc@1 {accuracy:.3f}")
    return accuracy


def main():
    options = arguments()
    torch.set_num_threads(1)
    if options.seed is not None:
        torch.manual_seed(options.seed)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    begin, best = options.start_epoch, 0.0
    if options.resume and Path(options.resume).is_file():
        print(f"=> loading checkpoint '{options.resume}'")
        checkpoint = torch.load(options.resume)
        begin, best = checkpoint["epoch"], checkpoint["best_acc1"]
        model.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        print(f"=> loaded checkpoint '{options.resume}' (epoch {begin})")
    elif options.resume:
        print(f"=> no checkpoint found at '{options.resume}'")  # and the training begins at epoch 0
    loader = DataLoader(pictures(160, 1), options.batch_size, shuffle=True)
    held_out = DataLoader(pictures(64, 2), options.batch_size)
    for epoch in range(begin, options.epochs):
        train(loader, model, optimizer, epoch, options)
        accuracy = validate(held_out, model)
        scheduler.step()
        better, best = accuracy > best, max(accuracy, best)
        states = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        states |= {"epoch": epoch + 1, "best_acc1": best, "scheduler": scheduler.state_dict()}
        torch.save(states, "checkpoint.pth.tar")
        if better:
            shutil.copyfile("checkpoint.pth.tar", "model_best.pth.tar")


if __name__ == "__main__":
    main()
