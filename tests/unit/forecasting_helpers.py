"""A run in memory, small trainings, and models that know what comes next, for the forecasting tests."""

import contextlib
import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from pretrain_tiny import VOCABULARY

from lvjobs.forecasting import train as task
from lvjobs.forecasting.base_weights import BaseWeights
from lvjobs.forecasting.codec import ALPHABET, SLACK
from lvjobs.study.run import RunConfig
from lvjobs.worker import Alone, Resumed


@pytest.fixture(scope="module")
def one_thread():
    """As a worker does: one thread, deterministic. Bitwise equality holds for nothing less."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=strict)


def error_bound(codec, scale):
    """Return the largest error that encoding and decoding may make, in the data's own units: (..., variables)."""
    return (0.5 + SLACK) * 10.0**-codec.decimals * scale.unit


class Killed(Exception):
    """Stands for SIGKILL."""


class FakeRun:
    """`lvjobs.worker.Run`, with its checkpoint kept as an object and its adapter as files."""

    def __init__(self, config, directory, before=None, kill_at=None, stop_at=None):
        self.config, self.directory, self.team = config, directory, Alone()
        self.found, self.kill_at, self.stop_at = before, kill_at, stop_at
        self.step = before[0] if before else 0
        self.saved, self.logs, self.validations, self.events = before, [], [], []
        torch.manual_seed(config.seed)

    def resume(self):
        if self.found is None:
            return None
        step, state, path, rng = self.found
        torch.set_rng_state(rng)
        return Resumed(step, copy.deepcopy(state), path)

    def log(self, step, **metrics):
        self.logs.append((step, metrics))
        self.events.append(("log", step))
        if step == self.kill_at:
            raise Killed

    def validated(self, step, **metrics):
        self.validations.append((step, metrics))
        self.events.append(("validated", step))

    def due(self, step):
        return step % self.config.checkpoint_every == 0 or step == self.config.steps

    def checkpoint(self, step, state, *, final=False):
        path = self.directory / f"{step:06d}"
        tree = {}
        for name, value in state.items():
            if callable(value):
                (path / name).mkdir(parents=True)
                value(path / name)
            else:
                tree[name] = copy.deepcopy(value)
        self.saved = step, tree, path, torch.get_rng_state()
        self.events.append(("final" if final else "checkpoint", step))
        return path

    def should_stop(self):
        return self.stop_at is not None and bool(self.logs) and self.logs[-1][0] >= self.stop_at


def small(data, *, steps=12, checkpoint_every=4, validate_every=4, **params):
    """A training of a second: dropout, shuffled data, a decaying rate."""
    chosen = {
        "data": str(data),
        "context_length": 48,
        "batch_size": 2,
        "lora_targets": "all-linear",
        "learning_rate": 4e-3,
        "lora_dropout": 0.05,
        "warmup_steps": 2,
        "train_systems": 3,
        "history_steps": 10,
        "horizon_steps": 3,
        "validation_limit": 1,
    }
    return RunConfig(
        task="lvjobs.forecasting.train:train",
        steps=steps,
        checkpoint_every=checkpoint_every,
        validate_every=validate_every,
        seed=3,
        params=chosen | params,
    )


def run_through(config, directory, **faults):
    """Train to the end of an attempt; the run as it was left."""
    run = FakeRun(config, directory, **faults)
    with contextlib.suppress(Killed):
        task.train(run)
    return run


def adapter_bytes(run):
    """The final adapter's weights, as they are on disk."""
    return (run.saved[2] / "adapter" / "adapter_model.safetensors").read_bytes()


class Table:
    """`tiny`'s tokenizer in a few lines."""

    def encode(self, text, add_special_tokens=False):
        return [VOCABULARY.index(character) for character in text]


def text_of(ids):
    """The text of token ids of `Table`."""
    return "".join(VOCABULARY[int(token)] for token in ids)


class Scripted(torch.nn.Module):
    """A causal language model that knows what comes next: its logits favour that token, though only by a little.

    It keeps what it has read by the cache that it is given, as a real one does, so that it notices a cache that is
    dropped or a token that is fed twice. `calls` counts what went through it.
    """

    def __init__(self, table, margin=1.0):
        super().__init__()
        self.table, self.margin = table, margin
        self.characters = {int(table.ids[ord(character)]): character for character in ALPHABET}
        self.config = transformers.Qwen2Config(
            vocab_size=len(VOCABULARY), num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_key_value_heads=2
        )
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.base_weights = BaseWeights("scripted", "0" * 64)
        self.calls, self.cache, self.seen = [], None, None

    def forward(self, input_ids, past_key_values=None, use_cache=None, logits_to_keep=0):
        self.calls.append(tuple(input_ids.shape))
        if past_key_values is not self.cache:
            self.cache, self.seen = past_key_values, [[] for _ in input_ids]
            past_key_values.batch_select_indices = self.select
        for seen, new in zip(self.seen, input_ids, strict=True):
            seen.extend(new.tolist())
        logits = torch.zeros(len(input_ids), 1, len(VOCABULARY))
        for row, seen in enumerate(self.seen):
            logits[row, 0, self.table.ids[ord(self.follows("".join(self.characters[token] for token in seen)))]] = (
                self.margin
            )
        return SimpleNamespace(logits=logits)

    def select(self, indices):
        """Record the selected rows of the cache: samples of a prompt, and copies that fill up."""
        self.seen = [list(self.seen[row]) for row in indices.tolist()]

    def follows(self, text):
        """The character that comes after a text."""
        raise NotImplementedError


class Perfect(Scripted):
    """A perfect model: it knows each series, history and truth, as the codec writes them."""

    def __init__(self, table, texts, margin=1.0):
        super().__init__(table, margin)
        self.texts = texts

    def follows(self, text):
        (known,) = {whole for whole in self.texts if whole.startswith(text) or text.startswith(whole)}
        return known[len(text)] if len(text) < len(known) else ";"  # a row that is done is fed on while others are not


class Persistence(Scripted):
    """A persistence model: it writes the last step of the history again and again."""

    def __init__(self, table, history_steps, margin=1.0):
        super().__init__(table, margin)
        self.history_steps = history_steps

    def follows(self, text):
        steps = text.split(";")
        last, begun = steps[self.history_steps - 1] + ";", steps[-1]
        assert last.startswith(begun), text
        return last[len(begun)]
