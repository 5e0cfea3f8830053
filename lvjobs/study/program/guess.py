"""Guesses from a command line: its output directory, steps, checkpoints, seed, and what a study would vary. Pure.

A guess replaces a value in the command by a placeholder, and keeps the value as a key of [train].
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from lvjobs.study.program.placeholders import BUILT_IN, names_in
from lvjobs.study.program.shell_words import shown

_OUT = frozenset({
    *("output_dir", "out_dir", "outdir", "save_dir", "default_root_dir", "o", "out", "output", "dump_folder"),
    *("ckpt_dir", "checkpoint_dir", "results_dir", "result_dir", "work_dir", "logging_dir", "log_dir", "project"),
})  # fmt: skip
_STEPS = frozenset({
    *("max_steps", "max_iters", "steps", "num_steps", "total_steps", "train_steps", "num_train_steps", "iters"),
    *("max_train_steps", "max_iterations", "num_iterations", "iterations", "n_iters", "train_iters", "n_steps"),
})  # fmt: skip
_EPOCHS = frozenset({"epochs", "num_epochs", "max_epochs", "num_train_epochs", "n_epochs"})
_DECAY = frozenset({"lr_decay_iters", "lr_decay_steps"})
_SAVES = frozenset({
    *("save_steps", "save_interval", "checkpoint_every", "checkpoint_interval", "save_every", "checkpointing_steps"),
    *("save_freq", "ckpt_every", "checkpoint_freq", "checkpoint_steps", "ckpt_interval", "every_n_train_steps"),
})  # fmt: skip
_EVALUATIONS = frozenset({"eval_interval"})
"""Options that say how often a program saves, if it has no option of `_SAVES` (nanoGPT)."""

_SEED = frozenset({"seed", "random_seed", "manual_seed", "rng_seed", "global_seed"})
_VARIED = frozenset({
    *("learning_rate", "lr", "lr0", "weight_decay", "wd", "batch_size", "per_device_train_batch_size"),
    *("train_batch_size", "micro_batch_size", "global_batch_size", "lora_rank", "lora_r"),
})  # fmt: skip
"""Options whose value becomes a key of its own, because a study varies it."""

_PROCESSES = frozenset({"nproc_per_node", "num_processes", "devices"})
"""Options of launchers that say how many processes train; they become {gpus} if the job has as many GPUs."""

_RESUME = frozenset({"resume", "resume_from_checkpoint", "resume_from", "ckpt_path", "load_checkpoint"})
_BY_ITSELF = frozenset({"true", "auto", "latest", "last", "must", "allow", "yes", "1"})
"""Values with which a program finds its checkpoint itself."""

_PLACEHOLDER = re.compile(r"\{(?P<name>[A-Za-z_]\w*)\}")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\Z")

_DIGITS = 40
"""Characters of a number, at most: a longer text is no setting."""


@dataclass
class Guess:
    """A command with placeholders.

    Attributes:
        command: The program and its arguments.
        settings: Keys of [train] and their values.
        said: What was guessed, one line each.
        missing: What could not be guessed: the key, and why it is needed.
    """

    command: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass
class _Option:
    """An option of a command: `--name value`, `--name=value` or `name=value`; `at` is the place of its value."""

    written: str
    at: int
    prefix: str
    value: str

    @property
    def name(self) -> str:
        """Return the option's last name, as a Python name: `--training.max-steps` is `max_steps`."""
        return self.written.lstrip("-+").rsplit(".", maxsplit=1)[-1].replace("-", "_").lower()


def number(text: str) -> int | float | None:
    """Return the number that a text is; None if it is none, or is too large."""
    if len(text) > _DIGITS or not _NUMBER.match(text):
        return None
    value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return value if math.isfinite(value) else None


def guess_command(words: Sequence[str], gpus: int | None = None) -> Guess:
    """Return the command with placeholders for the values that lvjobs decides, or that a study varies.

    `gpus` are those of one job, if they are known.
    """
    guess = Guess([literal(word) for word in words])
    options = [option for option in _options(words) if not names_in([option.value])]
    for option in options:
        if option.name in _PROCESSES and gpus and option.value == str(gpus):
            _replace(guess, option, "{gpus}", "GPUs of the job")
    _resume(guess, options)
    _out(guess, options)
    steps = _count(guess, options, _STEPS, "steps", "steps of a run")
    for option in options if steps else ():
        if option.name in _DECAY and option.value == steps:
            _replace(guess, option, "{steps}", "steps of a run")
    saves = _count(guess, options, _SAVES, "checkpoint_every", "steps between checkpoints")
    if not saves:
        _count(guess, options, _EVALUATIONS, "checkpoint_every", "steps between checkpoints")
    _count(guess, options, _SEED, "seed", "seed", least=0)
    if not steps and "steps" not in names_in(words):
        _epochs(guess, options)
    if "checkpoint_every" not in guess.settings and "checkpoint_every" not in names_in(words):
        guess.missing["checkpoint_every"] = (
            "steps between checkpoints: give the program {checkpoint_every} by an argument in command, or set the "
            "number that it uses"
        )
    _varied(guess, options)
    guess.command = [word for word in guess.command if word != _DROPPED]
    return guess


_DROPPED = "\0"
"""A word of the command that is left out. No argument can have this character."""


def literal(word: str) -> str:
    """Return a word whose braces are text, except for lvjobs' own placeholders."""
    return _PLACEHOLDER.sub(lambda match: match[0] if match["name"] in BUILT_IN else f"{{{match[0]}}}", word)


def _options(words: Sequence[str]) -> Iterator[_Option]:
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        following = words[place + 1] if place + 1 < len(words) else ""
        if equals and place and re.fullmatch(r"[-+]*[A-Za-z][\w.-]*", name):
            yield _Option(name, place, f"{name}=", value)
        elif re.fullmatch(r"--?[A-Za-z][\w.-]*", word):
            is_value = bool(following) and (not following.startswith("-") or number(following) is not None)
            yield _Option(word, place + 1 if is_value else place, "", following if is_value else "")


def _replace(guess: Guess, option: _Option, value: str, meaning: str) -> None:
    guess.command[option.at] = option.prefix + value
    equals = "" if option.prefix else " "
    guess.said.append(f"{option.prefix or option.written}{equals}{shown(option.value)} became {value} ({meaning})")


def _out(guess: Guess, options: Collection[_Option]) -> None:
    """Replace the output directories: the first is {out}, and the others are in it."""
    first, taken = "", False
    for option in options:
        if option.name not in _OUT or not option.value or (option.name == "o" and option.written != "-o"):
            continue
        path = os.path.normpath(option.value)
        if not taken:
            first, taken = path, True
            _replace(guess, option, "{out}", "directory of its output")
        elif path == first or path.startswith(f"{first}/"):
            _replace(guess, option, "{out}" + path[len(first) :], "directory of its output")
        else:
            _replace(guess, option, "{out}/" + literal(PurePath(path).name), "directory of its output")
    if not taken and "out" not in names_in(guess.command):
        guess.missing["out"] = (
            "the directory that the program writes to: give it {out} by an argument in command, or set out to the "
            "relative path that it uses"
        )


def _count(
    guess: Guess, options: Collection[_Option], names: Collection[str], key: str, meaning: str, least: int = 1
) -> str:
    """Replace an option's whole number; return its text, or an empty text if there is no such option."""
    for option in options:
        value = number(option.value)
        if option.name in names and isinstance(value, int) and value >= least:
            guess.settings[key] = value
            _replace(guess, option, f"{{{key}}}", meaning)
            return option.value
    return ""


def _epochs(guess: Guess, options: Collection[_Option]) -> None:
    if any(option.name in _EPOCHS for option in options):
        guess.missing["steps"] = (
            "steps of a run: the command counts epochs; give the program a number of steps, {steps}, instead, or count "
            "one epoch as one step everywhere in [train]"
        )
    else:
        guess.missing["steps"] = (
            "steps of a run: give the program {steps} by an argument in command, or set the number that it uses"
        )


def _varied(guess: Guess, options: Collection[_Option]) -> None:
    """Make a key of each value that a study varies."""
    for option in options:
        value = number(option.value)
        if option.name not in _VARIED or value is None or guess.settings.get(option.name, value) != value:
            continue
        guess.settings[option.name] = value
        _replace(guess, option, f"{{{option.name}}}", "its own key, which a sweep can vary")


def _resume(guess: Guess, options: Collection[_Option]) -> None:
    """Move an option that names a checkpoint from the command to resume."""
    for option in options:
        if option.name not in _RESUME or not option.value or not option.written.startswith("-"):
            continue
        is_named = option.value.lower() not in _BY_ITSELF
        if not is_named and option.name != "resume_from_checkpoint":
            guess.said.append(
                f"{option.written} {shown(option.value)} stays in command: the program has to find its checkpoint by "
                "itself in {out}, and to start without one"
            )
            continue
        words = [f"{option.prefix}{{checkpoint}}"] if option.prefix else [option.written, "{checkpoint}"]
        guess.settings.setdefault("resume", words)
        guess.command[option.at] = _DROPPED
        if not option.prefix:
            guess.command[option.at - 1] = _DROPPED
        guess.said.append(f"{option.written} {shown(option.value)} moved from command to resume")
