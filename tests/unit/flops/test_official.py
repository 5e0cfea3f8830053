"""The official convention against the figures that were derived by hand from the handout's rules."""

import pytest

from lvjobs.flops import official
from lvjobs.flops.architecture import CARDS, Architecture
from lvjobs.flops.workload import Workload

QWEN = CARDS["qwen/qwen2.5-0.5b-instruct"]


def training_step(*workload):
    return official.count(Workload(*workload)).step


def forward(*workload):
    return official.count(Workload(*workload)).forward


def test_a_step_at_512_with_rank_4():
    assert training_step(QWEN, 4, 512, 4) == 6_771_659_802_624


def test_the_loss_that_has_no_rule_would_add_what_the_page_says():
    loss = 3 * 4 * 512 * QWEN.vocabulary * (10 + 1 + 1)  # exponential, the row's sum, division; backward twice that
    assert f"{100 * loss / training_step(QWEN, 4, 512, 4):.2f}" == "0.17"


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


def test_the_smallest_model_by_hand():
    """One layer, width 2, one head, MLP 3, 5 words; one sequence of 2 tokens, r 1: every line on paper."""
    counts = official.count(Workload(Architecture(1, 2, 3, 1, 1, 2, 5), 1, 2, lora_rank=1))
    projections = 4 * (2 * 2 * 3)
    core = 2 * 2 * 3 + 4 * 13 + 2 * 2 * 3
    mlp = 2 * (2 * 3 * 3) + 2 * 2 * 5 + 2 * 3 * 14
    norm = 2 * (8 + 11)
    assert counts.embedding == 4
    assert counts.attention_per_layer == projections + core
    assert counts.mlp_per_layer == mlp
    assert counts.norm == norm
    assert counts.layer == projections + core + mlp + 2 * norm + 8
    assert counts.final == norm + 2 * 5 * 3
    assert counts.lora_forward == 2 * (2 * 1 * 3 + 2 * 2 * 1 + 2 * 2 * 2)
    assert counts.backward == 2 * counts.forward


def test_nothing_changes_the_backward_pass():
    plain = official.count(Workload(QWEN, 4, 64, 4))
    for changes in ({"gradient_checkpointing": True}, {"precision": "nf4"}, {"precision": "bf16"}):
        assert official.count(Workload(QWEN, 4, 64, 4, **changes)) == plain
    assert official.count(Workload(QWEN, 4, 64, 4, inference=True)).step == plain.forward


@pytest.mark.parametrize("rank", [0, 4])
def test_without_a_cache_each_token_is_a_whole_pass(rank):
    workload = Workload(QWEN, 1, 16, rank, prompt_tokens=30, new_tokens=7, kv_cache=False)
    assert official.count(workload).generation == sum(forward(QWEN, 1, 30 + token, rank) for token in range(7))


def test_with_a_cache_each_token_looks_at_all_before_it():
    """By hand: 30 tokens in, then tokens that look at 31, 32, ... 36 keys."""
    d, f = 896, 4864
    steps = 0
    for keys in range(31, 37):
        attention = 4 * d * (2 * d - 1) + 14 * (keys * 127 + 13 * keys + 64 * (2 * keys - 1))
        mlp = 2 * f * (2 * d - 1) + d * (2 * f - 1) + 14 * f
        steps += d + 24 * (attention + mlp + 2 * (4 * d + 11) + 2 * d) + 4 * d + 11 + 151_936 * (2 * d - 1)
    workload = Workload(QWEN, 1, 16, prompt_tokens=30, new_tokens=7)
    assert official.count(workload).generation == forward(QWEN, 1, 30) + steps


def test_a_numeric_head_spares_the_wide_matmul():
    full, narrow = (official.count(Workload(QWEN, 4, 512, 4, numeric_head=head)) for head in (None, 14))
    assert full.final - narrow.final == 2048 * (151_936 - 14) * (2 * 896 - 1)
    assert full.layer == narrow.layer
