"""The official convention against the figures that were derived by hand from the handout's rules."""

import pytest

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import CARDS, architecture_of, parse_config
from lvjobs.flops.official import forward, training_step

QWEN = CARDS["qwen/qwen2.5-0.5b-instruct"]


def test_a_step_at_512_with_rank_4():
    assert training_step(QWEN, 4, 512, 4) == 6_771_659_802_624


def test_the_published_study():
    assert f"{5000 * training_step(QWEN, 4, 512, 4):.3e}" == "3.386e+16"
    assert f"{sum(1500 * training_step(QWEN, 4, 512, rank) for rank in (2, 4, 8)):.3e}" == "3.048e+16"
    assert f"{sum(500 * training_step(QWEN, 4, context, 8) for context in (128, 512, 768)):.3e}" == "9.397e+15"
    assert f"{10_000 * training_step(QWEN, 4, 768, 8):.4e}" == "1.0376e+17"


def test_adapters_on_all_linear_layers_cost_more_than_on_two():
    bare = forward(QWEN, 1, 64)
    two = forward(QWEN, 1, 64, 4, "qv")
    all_linear = forward(QWEN, 1, 64, 4, "all-linear")
    assert bare < two < all_linear


def test_unknown_model_names_what_would_do():
    with pytest.raises(UsageError, match="neither 'tiny'"):
        architecture_of("gpt-17")


def test_a_config_without_a_shape_is_refused():
    with pytest.raises(UsageError, match="hidden_size"):
        parse_config({"num_attention_heads": 4}, "config.json")
