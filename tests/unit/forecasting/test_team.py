"""Training by several processes: the losses of one; and with the real worker, killed and resumed, the same adapter."""

import signal
import threading

import pytest
import torch
from forecasting_helpers import FakeRun, one_thread, run_through, small
from worker_helpers import Zygote, executed

from lvjobs.forecasting import train as task
from lvjobs.forecasting.data import make_dataset
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile

pytestmark = pytest.mark.heavy

__all__ = ["one_thread"]  # a fixture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=10, seed=0)
    return path


class Threads:
    """A team of threads: `add_up` of the last to come adds for all."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def add_up(self, tensor):
        self.shared["tensors"][self.rank] = tensor
        self.shared["barrier"].wait()
        total = torch.stack(self.shared["tensors"]).sum(0)
        self.shared["barrier"].wait()
        tensor.copy_(total)
        self.shared["barrier"].wait()


def by_threads(config, directory, size):
    shared = {"tensors": [None] * size, "barrier": threading.Barrier(size, timeout=120)}
    runs = []
    for rank in range(size):
        run = FakeRun(config, directory / str(rank))
        run.team = Threads(rank, size, shared)
        runs.append(run)
    torch.manual_seed(config.seed)
    # Built one after the other, from the same seed each: threads have one generator between them.
    trainers = []
    for run in runs:
        torch.manual_seed(config.seed)
        trainers.append(task.Trainer(config, run.team))
    workers = [
        threading.Thread(target=_train, args=[run, trainer]) for run, trainer in zip(runs, trainers, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    return runs


def _train(run, trainer):
    torch.use_deterministic_algorithms(mode=True)
    task._validate(run, trainer, 0)
    for step in range(1, run.config.steps + 1):
        run.log(step, **trainer.step(step))
    task._validate(run, trainer, run.config.steps)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"packing": True}], ids=str)
def test_two_have_the_losses_of_one(data, tmp_path, options):
    """The same windows in the same order, whatever lengths each share has; each counted and told once."""
    config = small(data, steps=6, batch_size=4, lora_dropout=0.0, validation_limit=2, validate_every=6, **options)
    alone = run_through(config, tmp_path / "alone")
    first, second = by_threads(config, tmp_path, 2)
    assert first.logs == second.logs
    for (step, expected), (same, found) in zip(alone.logs, first.logs, strict=True):
        assert step == same
        assert found == pytest.approx(expected, rel=1e-4)
        assert found["tokens"] == expected["tokens"]
    for (_, expected), (_, found) in zip(alone.validations, first.validations, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert (found["windows"], found["tokens"]) == (expected["windows"], expected["tokens"])


def declared(data, directory):
    """A run directory of a small training, as `submit` makes it."""
    layout = RunLayout(directory)
    directory.mkdir()
    config = small(data, steps=9, checkpoint_every=4, validate_every=4, lora_dropout=0.2)
    config = config.model_copy(update={"task": "killed_task:train"})
    run = RunFile(id="id", name=directory.name, stage="s", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json())
    return layout


def adapter(layout):
    return (layout.final / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_with_the_same_adapter(data, tmp_path):
    whole, run = declared(data, tmp_path / "whole"), declared(data, tmp_path / "run")
    zygote = Zygote("transformers.models.qwen2.modeling_qwen2", "peft", "killed_task")
    try:
        assert zygote.run(whole, LVJOBS_PROCESSES=2) == 0
        assert zygote.run(run, LVJOBS_PROCESSES=2, KILL_AT=6) == -signal.SIGKILL
        assert executed(run) == list(range(1, 7))
        assert not run.done.exists()
        assert zygote.run(run, LVJOBS_PROCESSES=2) == 0  # the other one of the former two ends by itself
    finally:
        zygote.close()
    assert executed(run) == [*range(1, 7), *range(5, 10)]
    assert adapter(run) == adapter(whole)
