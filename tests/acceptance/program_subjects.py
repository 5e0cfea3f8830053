"""The programs of tests/programs as runs: the files of each, its [train] and its result."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from driving import TESTS

PROGRAMS = TESTS / "programs"
PAUSE = ["--step_seconds={pause}"]


@dataclass(frozen=True)
class Subject:
    """A program as a run: its files, its [train], and its result.

    `needs` is a package or a command without which its tests are skipped. `final` is its result, a path in its working directory. `last` is what stands there once its last step is saved; empty
    where the result is overwritten in place. The key `pause` of [train] has the seconds that are added to a step; where a
    program lacks such an option, [train] lacks the key.
    """

    files: tuple[str, ...]
    train: dict[str, Any]
    final: str
    last: str = ""
    make: Callable[[Path], None] | None = None
    needs: str = ""


def build_heat(directory: Path) -> None:
    """Compile heat.c."""
    subprocess.run(["cc", "-O1", "-o", directory / "heat", PROGRAMS / "heat.c", "-lm"], check=True)


TRL_INPUTS = """
import json
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
words = ["<end>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unk>")
tokenizer.save_pretrained("model")
torch.manual_seed(0)
sizes = {"vocab_size": 32, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained("model")
with open("data/train.jsonl", "w", encoding="utf-8") as file:
    for first in range(64):
        letters = [chr(97 + first * place % 26) for place in range(1, 17)]
        print(json.dumps({"text": " ".join(letters)}), file=file)
"""


def make_trl_inputs(directory: Path) -> None:
    """Make a model of 30,000 parameters with a tokenizer of 28 words, and 64 texts."""
    (directory / "data").mkdir()
    subprocess.run([sys.executable, "-c", TRL_INPUTS], cwd=directory, check=True, capture_output=True)


SUBJECTS = {
    "nano": Subject(
        ("nano.py", "nano_config.py"),
        {
            "command": [
                *("python", "nano.py", "nano_config.py", "--out_dir={out}", "--max_iters={steps}"),
                *("--lr_decay_iters={steps}", "--eval_interval={checkpoint_every}", *PAUSE),
            ],
            "resume": ["--init_from=resume"],
            "checkpoint": "{out}/ckpt.pt",
            "progress": r"^iter (?P<step>\d+): loss (?P<loss>[\d.]+)",
            "validation": r"^step (?P<step>\d+): train loss [\d.]+, val loss (?P<loss>[\d.]+)",
            "first_step": 0,
            "steps": 120,
            "checkpoint_every": 20,
            "pause": 0.02,
        },
        "out/ckpt.pt",
    ),
    "trainer": Subject(
        ("trainer.py",),
        {
            "preset": "huggingface",
            "command": [
                *("python", "trainer.py", "--output_dir", "{out}", "--max_steps", "{steps}"),
                *("--save_steps", "{checkpoint_every}", "--seed={seed}", *PAUSE),
            ],
            "resume": ["--resume_from_checkpoint", "{checkpoint}"],
            "steps": 60,
            "checkpoint_every": 5,
            "pause": 0.03,
        },
        "out/model.safetensors",
        "out/checkpoint-60",
    ),
    "trl": Subject(
        (),
        {
            "preset": "huggingface",
            "command": [
                *("trl", "sft", "--model_name_or_path", "model", "--dataset_name", "./data", "--output_dir", "{out}"),
                *("--max_steps", "{steps}", "--save_steps", "{checkpoint_every}", "--learning_rate={learning_rate}"),
                *("--per_device_train_batch_size", "4", "--logging_steps", "1", "--report_to", "none"),
                *("--use_cpu", "--bf16", "False", "--gradient_checkpointing", "False"),
            ],
            "link": ["data"],
            "steps": 100,
            "checkpoint_every": 4,
            "learning_rate": 1e-3,
        },
        "out/model.safetensors",
        "out/checkpoint-100",
        make_trl_inputs,
        needs="trl",
    ),
    "accelerated": Subject(
        ("accelerated.py",),
        {
            "preset": "accelerate",
            "command": [
                *("accelerate", "launch", "--cpu", "--num_processes=1", "accelerated.py", "--output_dir={out}"),
                *("--num_epochs={steps}", "--checkpointing_steps=epoch", *PAUSE),
            ],
            "checkpoint": "{out}/epoch_{step}",
            "progress": r"^epoch (?P<step>\d+): .*'loss': (?P<loss>[\d.e-]+)",
            "first_step": 0,
            "first_checkpoint": 0,
            "steps": 12,
            "checkpoint_every": 1,
            "pause": 0.03,
        },
        "out/epoch_11/model.safetensors",
        "out/epoch_11",
    ),
    "snapshot": Subject(
        ("snapshot.py",),
        {
            "command": [
                *("torchrun", "--standalone", "--nproc-per-node=2", "snapshot.py", "--epochs={steps}"),
                *("--save_every={checkpoint_every}", "--snapshot_path={out}/snapshot.pt", "--epoch_seconds={pause}"),
                "--padding_mb=4",
            ],
            "checkpoint": "{out}/snapshot.pt",
            "progress": r"^epoch (?P<step>\d+) loss (?P<loss>\S+)",
            "steps": 60,
            "checkpoint_every": 3,
            "pause": 0.1,
        },
        "out/snapshot.pt",
    ),
    "lit": Subject(
        ("lit.py",),
        {
            "preset": "lightning",
            "command": [
                *("python", "lit.py", "--dir={out}", "--max_steps={steps}", "--save_every={checkpoint_every}"),
                *("--learning_rate={learning_rate}", *PAUSE),
            ],
            "steps": 80,
            "checkpoint_every": 10,
            "learning_rate": 1e-2,
            "pause": 0.03,
        },
        "out/epoch=3-step=80.ckpt",
        "out/epoch=3-step=80.ckpt",
        needs="lightning",
    ),
    "imagenet": Subject(
        ("imagenet.py",),
        {
            "command": [
                *("python", "imagenet.py", "--dummy", "--epochs={steps}", "--seed={seed}", "--lr={learning_rate}"),
                "--batch-seconds={pause}",
            ],
            "resume": ["--resume={checkpoint}"],
            "out": ".",
            "checkpoint": "{out}/checkpoint.pth.tar",
            "progress": r"^Epoch: \[(?P<step>\d+)\]\[ *(\d+)/\2\].*Loss (?P<loss>\S+)",
            "first_step": 0,
            "steps": 12,
            "checkpoint_every": 1,
            "learning_rate": 0.1,
            "pause": 0.03,
        },
        "checkpoint.pth.tar",
    ),
    "counter": Subject(
        ("counter.py",),
        {
            "command": [
                *("python", "counter.py", "--steps={steps}", "--every={checkpoint_every}", "--out={out}"),
                *("--lr={learning_rate}", "--seed={seed}"),
            ],
            "resume": ["--resume={checkpoint}"],
            "checkpoint": "{out}/checkpoint.json",
            "progress": r"^step (?P<step>\d+): loss (?P<loss>\S+)",
            "validation": r"^step (?P<step>\d+0): loss (?P<loss>\S+)",
            "steps": 20,
            "checkpoint_every": 10,
            "learning_rate": 0.1,
        },
        "out/result.json",
    ),
    "heat": Subject(
        (),
        {
            "command": ["./heat", "-n", "{steps}", "-c", "{checkpoint_every}", "-o", "{out}", "-s", "{pause}"],
            "resume": ["-r", "{checkpoint}"],
            "checkpoint": "{out}/state-{step}.bin",
            "progress": r"^step (?P<step>\d+) residual (?P<residual>\S+)",
            "steps": 100,
            "checkpoint_every": 10,
            "pause": 30,
        },
        "out/state-100.bin",
        "out/state-100.bin",
        build_heat,
        needs="cc",
    ),
}


def put_files(subject: Subject, directory: Path) -> None:
    """Put a program and its inputs into a directory; skip the test where what it needs is absent."""
    if subject.needs and not (find_spec(subject.needs) or shutil.which(subject.needs)):
        pytest.skip(f"there is no {subject.needs} here")
    for name in subject.files:
        shutil.copy(PROGRAMS / name, directory)
    if subject.make:
        subject.make(directory)
