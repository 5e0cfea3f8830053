"""A training step, option by option: accumulated batches, layers that run again, padding, order."""

import numpy as np
import pytest
import torch
from forecasting_helpers import adapter_bytes, one_thread, run_through, small

from lvjobs.forecasting import train as task
from lvjobs.forecasting.data import make_dataset
from lvjobs.tasks.registry import rates_of

__all__ = ["one_thread"]  # a fixture

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=5, seed=0)
    return path


def built(data, **params):
    torch.manual_seed(0)
    return task.Trainer(small(data, **params))


def gradients(trainer, monkeypatch):
    """Of one step, before they are clipped."""
    found = []
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda weights, _: found.extend(each.grad.clone() for each in weights)
    )
    logged = trainer.step(1)
    return torch.cat([gradient.flatten() for gradient in found]), logged


@pytest.mark.parametrize(("packing", "drawn"), [(False, 4), (True, 32)])
def test_accumulated_batches_are_one_batch(data, monkeypatch, packing, drawn):
    """Windows of unequal length: the loss is a mean over tokens, not over batches."""
    options = {"lora_dropout": 0.0, "packing": packing}
    whole, parts = built(data, batch_size=4, **options), built(data, batch_size=2, accumulate=2, **options)
    for trainer in (whole, parts):
        trainer.model.double()  # rounding differs from machine to machine
    whole.order.drawn = parts.order.drawn = drawn
    assert len({parts.training.take(parts.order.next()).learnt for _ in range(2)}) == 2
    parts.order.drawn = drawn
    (expected, logged), (found, also) = gradients(whole, monkeypatch), gradients(parts, monkeypatch)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-6)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert also == pytest.approx(logged, rel=1e-5)
    assert also["tokens"] == logged["tokens"]
    assert whole.order.drawn == parts.order.drawn


def test_accumulated_batches_resume_bit_for_bit(data, tmp_path):
    config = small(data, steps=6, checkpoint_every=2, validate_every=6, accumulate=3)
    whole = run_through(config, tmp_path / "whole")
    assert all(metrics["tokens"] > 96 for _, metrics in whole.logs)
    first = run_through(config, tmp_path / "1", kill_at=5)
    second = run_through(config, tmp_path / "2", before=first.saved)
    assert adapter_bytes(second) == adapter_bytes(whole)


def test_layers_that_run_again_change_no_bit(data, tmp_path):
    """Dropout included: each layer is given the generator's state that it had."""
    plain, again = (
        run_through(small(data, steps=4, gradient_checkpointing=on, lora_dropout=0.2), tmp_path / str(on))
        for on in (False, True)
    )
    assert adapter_bytes(again) == adapter_bytes(plain)
    assert again.logs == plain.logs
    assert torch.equal(again.saved[3], plain.saved[3])


def test_layers_do_run_again(data):
    calls = []
    trainer = built(data, gradient_checkpointing=True)
    layer = trainer.model.get_base_model().model.layers[0]
    layer.self_attn.register_forward_hook(lambda *_: calls.append(1))
    trainer.step(1)
    assert len(calls) == 2
    trainer.validate()
    assert len(calls) == 3


def test_what_a_step_costs(data):
    """Accumulated batches are paid for each; layers that run again where the convention counts them."""
    plain, accumulated, again = (
        rates_of(small(data, **options)) for options in ({}, {"accumulate": 3}, {"gradient_checkpointing": True})
    )
    for name, rates in plain.items():
        assert accumulated[name] == rates | {"training": 3 * rates["training"]}
        assert again[name] | {"training": 0} == rates | {"training": 0}
    assert again["exact"]["training"] > plain["exact"]["training"]
    assert again["official"] == plain["official"]


def test_padding_is_not_trained_on(data, monkeypatch):
    """A step beside a longer window, with its padding, has the gradients of the two windows by themselves."""
    trainer = built(data, lora_dropout=0.0, batch_size=2)
    trainer.model.double()  # rounding differs from machine to machine
    lengths = trainer.training.attention.sum(1)
    rows = np.array([int(lengths.argmin()), int(lengths.argmax())])
    assert lengths[rows[0]] < lengths[rows[1]]
    count = 0
    for row in rows:
        alone = trainer.training.take(rows[rows == row])
        assert (alone.labels[:, 1:] == alone.ids[:, 1:]).all()
        count += alone.ids.shape[1] - 1
        task.loss_of(trainer.model, alone)[0].backward()
    weights = [each for each in trainer.model.parameters() if each.requires_grad]
    expected = torch.cat([each.grad.flatten() for each in weights]) / count
    trainer.model.zero_grad()
    monkeypatch.setattr(trainer.order, "next", lambda: rows)
    found, logged = gradients(trainer, monkeypatch)
    assert logged["tokens"] == lengths[rows].sum()
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_the_order_is_shuffled_complete_and_the_same_again(data):
    """A window and its labels stay together; an epoch has each once; the next one is in another order."""
    trainer = built(data, batch_size=2)
    windows = len(trainer.training)
    assert windows % 2 == 0
    first, second = ([trainer.order.next() for _ in range(windows // 2)] for _ in range(2))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch)) == list(range(windows))
        assert (np.diff(np.concatenate(epoch)) != 1).any()
    assert not np.array_equal(first, second)
    for rows in first:
        batch = trainer.training.take(rows)
        assert np.array_equal(np.where(batch.attention == 1, batch.ids, -100), batch.labels)
    again = built(data, batch_size=2).order
    assert np.array_equal(first, [again.next() for _ in range(windows // 2)])
