"""A GPT that is trained as nanoGPT's train.py trains one: settings by --key=value, ckpt.pt in place, no signals."""

import ast
import runpy
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

SETTINGS = {
    "out_dir": "out",
    "eval_interval": 20,
    "log_interval": 1,
    "eval_iters": 4,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "batch_size": 8,
    "block_size": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "dropout": 0.0,
    "learning_rate": 1e-3,
    "max_iters": 100,
    "warmup_iters": 10,
    "lr_decay_iters": 100,
    "device": "cpu",
    "compile": False,
    "step_seconds": 0.0,  # ours: a step that takes longer
}
LETTERS = 32


def configure(words):
    """Change SETTINGS by files of Python and by --key=value, in the order in which they are given."""
    for word in words:
        if not word.startswith("--"):
            SETTINGS.update({key: value for key, value in runpy.run_path(word).items() if key in SETTINGS})
            continue
        key, _, text = word[2:].partition("=")
        if key not in SETTINGS:
            raise ValueError(f"Unknown config key: {key}")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        if type(value) is not type(SETTINGS[key]):
            raise TypeError(f"{key} is a {type(SETTINGS[key]).__name__}, not {text}")
        SETTINGS[key] = value


class Model(nn.Module):
    def __init__(self, width, heads, layers, length, dropout):
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, LETTERS)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, letters, targets):
        hidden = self.letters(letters) + self.places.weight
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask, is_causal=True)
        return functional.cross_entropy(self.head(hidden).flatten(0, 1), targets.flatten())


def text(length, seed):
    """Return letters of which each follows from the one before, but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(3, (length,), generator=generator)
    return torch.cumsum(noise * 5 + 1, 0) % LETTERS


def batch(data):
    size, length = SETTINGS["batch_size"], SETTINGS["block_size"]
    starts = torch.randint(len(data) - length, (size, 1))
    places = starts + torch.arange(length)
    return data[places], data[places + 1]


@torch.no_grad()
def evaluate(model, splits):
    model.eval()
    losses = {
        name: sum(model(*batch(data)).item() for _ in range(SETTINGS["eval_iters"])) / SETTINGS["eval_iters"]
        for name, data in splits.items()
    }
    model.train()
    return losses


def train(model, optimizer, checkpoint):
    out, splits = Path(SETTINGS["out_dir"]), {"train": text(100_000, 1), "val": text(10_000, 2)}
    step, best = (checkpoint["iter_num"], checkpoint["best_val_loss"]) if checkpoint else (0, 1e9)
    while step <= SETTINGS["max_iters"]:
        if step % SETTINGS["eval_interval"] == 0:
            losses = evaluate(model, splits)
            print(f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
            if losses["val"] < best or SETTINGS["always_save_checkpoint"]:
                best = losses["val"]
                if step > 0:
                    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                    print(f"saving checkpoint to {out}")
                    torch.save(states | {"iter_num": step, "best_val_loss": best, "config": SETTINGS}, out / "ckpt.pt")
        start = time.time()
        for group in optimizer.param_groups:
            decay = max(0.1, 1 - step / SETTINGS["lr_decay_iters"])
            group["lr"] = SETTINGS["learning_rate"] * min(decay, (step + 1) / (SETTINGS["warmup_iters"] + 1))
        loss = model(*batch(splits["train"]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        time.sleep(SETTINGS["step_seconds"])
        if step % SETTINGS["log_interval"] == 0:
            print(f"iter {step}: loss {loss.item():.4f}, time {(time.time() - start) * 1000:.2f}ms, mfu -100.00%")
        step += 1


def main():
    configure(sys.argv[1:])
    Path(SETTINGS["out_dir"]).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1337)  # after a resume, too: the first batches are repeated
    sizes = [SETTINGS[name] for name in ("n_embd", "n_head", "n_layer", "block_size", "dropout")]
    model, checkpoint = Model(*sizes), None
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95))
    if SETTINGS["init_from"] == "resume":
        print(f"Resuming training from {SETTINGS['out_dir']}")
        checkpoint = torch.load(Path(SETTINGS["out_dir"]) / "ckpt.pt")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer, checkpoint)


if __name__ == "__main__":
    main()
