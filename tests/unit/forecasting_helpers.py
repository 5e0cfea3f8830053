"""A run in memory, and small trainings, for the forecasting tests."""

import contextlib
import copy

import pytest
import torch

from lvjobs.forecasting import train as task
from lvjobs.study.run import RunConfig
from lvjobs.worker import Resumed


@pytest.fixture(scope="module")
def one_thread():
    """As a worker does: one thread, deterministic. Bitwise equality holds for nothing less."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=strict)


class Killed(Exception):
    """Stands for SIGKILL."""


class FakeRun:
    """`lvjobs.worker.Run`, with its checkpoint kept as an object and its adapter as files."""

    def __init__(self, config, directory, before=None, kill_at=None, stop_at=None):
        self.config, self.directory = config, directory
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

    def checkpoint(self, step, state):
        path = self.directory / f"{step:06d}"
        tree = {}
        for name, value in state.items():
            if callable(value):
                (path / name).mkdir(parents=True)
                value(path / name)
            else:
                tree[name] = copy.deepcopy(value)
        self.saved = step, tree, path, torch.get_rng_state()
        self.events.append(("checkpoint", step))
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


def run_through(config, directory, **misfortunes):
    """Train to the end of an attempt; the run as it was left."""
    run = FakeRun(config, directory, **misfortunes)
    with contextlib.suppress(Killed):
        task.train(run)
    return run


def adapter_bytes(run):
    """The final adapter's weights, as they are on disk."""
    return (run.saved[2] / "adapter" / "adapter_model.safetensors").read_bytes()
