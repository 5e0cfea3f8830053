"""The bundled model: small, whole, sane; how it is pretrained; and what happens when a model is not there."""

from dataclasses import replace

import numpy as np
import pretrain_tiny as pretrain
import pytest
import synthetic_series as synthetic
import torch
from forecasting_helpers import one_thread

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import models
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.decode import sample
from lvjobs.forecasting.tokens import Characters
from lvjobs.study.params import TrainingConfig

__all__ = ["one_thread"]  # a fixture
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def tiny():
    return models.load_base(TrainingConfig(data="unused"))


def test_it_is_a_million_parameters_in_under_four_megabytes(tiny):
    model, _ = tiny
    assert model.config.model_type == "qwen2"
    assert model.num_parameters() == 991_616
    assert model.dtype == torch.float32
    assert sum(path.stat().st_size for path in models.TINY_DIRECTORY.iterdir()) <= 4_000_000


def test_no_path_of_a_machine_is_shipped():
    for path in models.TINY_DIRECTORY.glob("*.json"):
        assert "/" not in path.read_text()


def test_the_shipped_tokenizer_is_the_one_that_is_built(tiny):
    _, tokenizer = tiny
    assert tokenizer.get_vocab() == pretrain.build_tokenizer().get_vocab()
    assert len(tokenizer) == tiny[0].config.vocab_size


def test_zero_shot_forecasts_are_sane(tiny):
    """Better than to repeat the last value, on systems it was never shown the like of."""
    model, tokenizer = tiny
    series = solve(draw_systems(6, 5), sample_times())
    codec = Codec()
    predicted = sample(model, Characters(tokenizer, "tiny", codec), codec, series[:, :80], 20)[0]
    error = np.abs(predicted - series[:, 80:]).mean()
    persistence = np.abs(series[:, 79:80] - series[:, 80:]).mean()
    assert error < 0.7 * persistence


def test_decoding_with_a_cache_is_decoding_without(tiny):
    model, tokenizer = tiny
    series = solve(draw_systems(2, 5), sample_times())
    codec = Codec()
    table = Characters(tokenizer, "tiny", codec)
    predicted = sample(model, table, codec, series[:, :30], 2)[0]
    scale = codec.fit(series[:, :30])
    texts = codec.encode(np.concatenate([series[:, :30], predicted], axis=1), scale)
    ids = torch.from_numpy(np.stack([table.encode(text) for text in texts]))
    with torch.no_grad():
        greedy = model(input_ids=ids).logits[:, :, table.encode("0123456789")].argmax(-1)
    digits = torch.from_numpy(np.isin(ids.numpy(), table.encode("0123456789")))[:, 300:]
    chosen = ids[:, 300:] - table.ids[ord("0")]
    assert (greedy[:, 299:-1] == chosen)[digits].all()


@pytest.mark.parametrize(("family", "share"), [*synthetic.MIX, *synthetic.WIDE_MIX])
def test_each_family_gives_pairs_that_can_be_written(family, share):
    rng = np.random.default_rng(0)
    series = family(rng, 20, 1.0)
    assert series.shape == (20, synthetic.STEPS, 2)
    series = series[np.isfinite(series).all(axis=(1, 2))]  # others are drawn again
    assert len(series) >= 15
    scaled = Codec().fit(series[:, : synthetic.HISTORY]).apply(series)
    assert ((scaled >= 0) & (scaled < 9.995)).all(axis=(1, 2)).mean() > 0.5
    assert 0 < share < 1


@pytest.mark.parametrize(
    "family", [family for family, _ in synthetic.WIDE_MIX if family not in (synthetic.logistic_maps, synthetic.trends)]
)
def test_twice_the_pace_crosses_the_mean_about_twice_as_often(family):
    def crossings(pace):
        series = family(np.random.default_rng(0), 200, pace)
        series = series[np.isfinite(series).all(axis=(1, 2))][:, 20:, 0]
        above = series > series.mean(axis=1, keepdims=True)
        return (above[:, 1:] != above[:, :-1]).sum(axis=1).mean()

    assert 1.5 < crossings(2.0) / crossings(1.0) < 2.2


def test_the_shares_are_whole():
    for mix in synthetic.MIX, synthetic.WIDE_MIX:
        assert sum(share for _, share in mix) == pytest.approx(1)


def test_half_of_the_positive_pairs_of_the_wide_mix_are_powers_or_logarithms():
    drawn = np.exp(np.random.default_rng(0).normal(size=(400, 100, 2)))
    drawn[::2] -= 1  # of both signs
    read = synthetic._measured(np.random.default_rng(1), drawn)
    assert np.array_equal(read[::2], drawn[::2])
    logs = np.isclose(np.exp(read[1::2]), drawn[1::2]).all(axis=(1, 2)).mean()
    roots = np.isclose(read[1::2] ** 2, drawn[1::2]).all(axis=(1, 2)).mean()
    same = (read[1::2] == drawn[1::2]).all(axis=(1, 2)).mean()
    assert (same, logs, roots) == pytest.approx((0.5, 0.2, 0.2), abs=0.08)


def test_the_wide_mix_alone_is_read_in_powers_and_has_fields(monkeypatch):
    read, codec = [], Codec()
    monkeypatch.setattr(synthetic, "_measured", lambda rng, drawn: read.append(len(drawn)) or drawn)
    plain = synthetic.pairs(np.random.default_rng(0), 8, codec)
    assert not read
    wide = synthetic.pairs(np.random.default_rng(0), 8, codec, wide=True)
    assert read
    assert not np.array_equal(plain, wide)


def test_pretraining_reads_what_codec_and_tokenizer_write(tiny):
    codec = Codec()
    scaled = synthetic.pairs(np.random.default_rng(0), 8, codec)
    table = Characters(tiny[1], "tiny", codec)
    assert pretrain.tokens(scaled).tolist() == [table.encode(text).tolist() for text in codec.write(scaled)]


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    short, long = pretrain.first_plan(1).phases
    one, other = pretrain.Corpus(0), pretrain.Corpus(0)
    one.batch(300, short)
    assert torch.equal(one.batch(8, short), other.batch(8, short))
    assert not torch.equal(one.batch(8, short), one.batch(16, short))
    assert one.batch(0, long).shape == (4, 1000)
    # The same windows of series that go at another pace are others.
    assert not torch.equal(one.batch(8, replace(short, pace=1.0)), one.batch(8, short))


def test_no_window_of_the_plan_is_seen_twice():
    plan = pretrain.first_plan(0.01)
    seen = [
        index
        for step in range(plan.steps)
        for phase, first in [pretrain.place(plan.phases, step)]
        for index in range(first, first + phase.batch)
    ]
    assert len(seen) == len(set(seen)) == 21 * 8 + 16 * 4
    with pytest.raises(ValueError, match="past the plan"):
        pretrain.place(plan.phases, 37)


def test_pretraining_goes_on_where_it_stopped_and_ships_what_loads(tmp_path, monkeypatch, capsys):
    plan = replace(pretrain.first_plan(1), phases=(pretrain.Phase(3, 2, 4, 2.0), pretrain.Phase(2, 2, 6, 1.0)))
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    monkeypatch.setattr(pretrain, "POOL", 4)
    for name in ("whole", "halved"):
        (tmp_path / name).mkdir()
    whole = pretrain.pretrain(tmp_path / "whole", plan, 0)
    real, calls = pretrain.loss_of, []

    def dies(model, ids):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(model, ids)

    monkeypatch.setattr(pretrain, "loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(tmp_path / "halved", plan, 0)
    halved = pretrain.pretrain(tmp_path / "halved", plan, 0)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halved.parameters(), strict=True))
    assert len(calls) == 4 + 3  # three steps were done, two of them saved
    pretrain.ship(halved, tmp_path / "out")
    monkeypatch.setattr(models, "TINY_DIRECTORY", tmp_path / "out")
    loaded, _ = models.load_base(TrainingConfig(data="unused"))
    for (name, weights), original in zip(loaded.named_parameters(), halved.parameters(), strict=True):
        assert torch.equal(weights, original.half().float()), name
    (tmp_path / "second").mkdir()
    started = pretrain.pretrain(tmp_path / "second", replace(pretrain.second_plan(1), phases=()), 0, tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(started.parameters(), loaded.parameters(), strict=True))


def test_a_model_that_is_not_cached_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LvjobsError, match=r"'nobody/nothing'.*lvjobs model pull nobody/nothing"):
        models.load_base(TrainingConfig(data="x", model="nobody/nothing"))


def test_a_directory_that_is_no_model_is_named(tmp_path):
    with pytest.raises(LvjobsError, match="cannot be loaded") as caught:
        models.load_base(TrainingConfig(data="x", model=str(tmp_path)))
    assert str(tmp_path) in str(caught.value)


def test_a_directory_with_a_model_is_loaded(tiny):
    model, _ = models.load_base(TrainingConfig(data="x", model=str(models.TINY_DIRECTORY), precision="bf16"))
    assert model.dtype == torch.bfloat16
    assert not any(weights.requires_grad for weights in model.parameters())
