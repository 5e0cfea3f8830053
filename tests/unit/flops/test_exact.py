"""The exact convention: the study's figures, and each line of the backward pass on paper.

That its matmuls are what torch runs is held in test_flops_measured.py, to the last one.
"""

import pytest

from lvjobs.flops import exact
from lvjobs.flops.architecture import Architecture, architecture_of
from lvjobs.flops.workload import Workload

QWEN = architecture_of("qwen2.5-0.5b")
SMALL = Architecture(1, 4, 6, 2, 1, 2, 5)
"""One layer, width 4, two heads of 2 that share one key head, MLP 6, 5 words."""


def count(**changes):
    return exact.count(Workload(**{"shape": SMALL, "batch": 1, "length": 3, "lora_rank": 1, **changes}))


def step(length, rank):
    return exact.count(Workload(QWEN, 4, length, rank)).step


def mm(m, n, p):
    return m * p * (2 * n - 1)


def test_the_published_study():
    base = 5000 * step(512, 4)
    first = sum(1500 * step(512, rank) for rank in (2, 4, 8))
    second = sum(500 * step(length, 8) for length in (128, 512, 768))
    final = 10_000 * step(768, 8)
    total = base + first + second + final
    assert [f"{flops:.3e}" for flops in (step(512, 4), base, first, second, final, total)] == [
        "4.341e+12",
        "2.171e+16",
        "1.954e+16",
        "6.053e+15",
        "6.729e+16",
        "1.146e+17",
    ]


def test_a_forward_pass_on_paper():
    counts = count()
    t = 3
    assert counts.embedding == t * 4
    core = 2 * (mm(t, 2, t) + 13 * t * t + mm(t, t, 2))
    assert counts.attention_per_layer == 2 * mm(t, 4, 4) + 2 * mm(t, 4, 2) + core
    assert counts.mlp_per_layer == 2 * mm(t, 4, 6) + mm(t, 6, 4) + 14 * t * 6
    assert counts.norm == t * (4 * 4 + 11)
    assert counts.final == counts.norm + mm(t, 4, 5)
    assert counts.lora_forward == mm(t, 4, 1) + mm(t, 1, 4) + 2 * t * 4 + mm(t, 4, 1) + mm(t, 1, 2) + 2 * t * 2
    assert counts.layer == counts.attention_per_layer + counts.mlp_per_layer + 2 * counts.norm + 2 * t * 4


def backward_on_paper():
    """Frozen linears, core, adapters, elementwise; of one layer and what is above it."""
    t = 3
    frozen = 2 * mm(t, 4, 4) + 2 * mm(t, 2, 4) + 2 * mm(t, 6, 4) + mm(t, 4, 6)
    core = 2 * (3 * mm(t, t, 2) + mm(t, 2, t) + 26 * t * t)
    q = mm(t, 4, 1) + mm(1, t, 4) + mm(t, 1, 4) + mm(4, t, 1) + t * (4 + 4)
    v = mm(t, 2, 1) + mm(1, t, 2) + mm(t, 1, 4) + mm(4, t, 1) + t * (2 + 4)
    elementwise = 19 * t * 6 + 5 * t * 4 + 2 * t * (4 - 2)
    norms = 3 * t * (6 * 4 + 3)
    return frozen + core + q + v + elementwise + norms + mm(t, 5, 4)


def test_a_backward_pass_on_paper():
    assert count().backward == backward_on_paper()


def test_where_all_learn_each_weight_has_a_gradient():
    t = 3
    adapters = count().backward - count(lora_rank=0).backward
    weights = 2 * mm(4, t, 4) + 2 * mm(4, t, 2) + 2 * mm(4, t, 6) + mm(6, t, 4) + mm(4, t, 5)
    q = mm(t, 4, 1) + mm(1, t, 4) + mm(t, 1, 4) + mm(4, t, 1) + t * (4 + 4)
    v = mm(t, 2, 1) + mm(1, t, 2) + mm(t, 1, 4) + mm(4, t, 1) + t * (2 + 4)
    embeddings, norms = t * 4, 3 * t * 3 * 4
    assert adapters == q + v - weights - embeddings - norms


@pytest.mark.parametrize("length", [128, 512])
def test_where_all_learn_a_step_is_three_forward_passes(length):
    counts = exact.count(Workload(QWEN, 4, length), elementwise=False)
    assert counts.step == pytest.approx(3 * counts.forward, rel=0.002)


def test_gradient_checkpointing_runs_all_but_the_last_matmul_again():
    """And not the residual after it; with an adapter there, all but the adapter's upper half."""
    t = 3
    plain, again = count(), count(gradient_checkpointing=True)
    assert again.forward == plain.forward
    assert again.backward - plain.backward == plain.layer + plain.lora_forward - mm(t, 6, 4) - t * 4
    plain, again = (count(lora_targets="all-linear", gradient_checkpointing=on) for on in (False, True))
    upper = mm(t, 1, 4) + 2 * t * 4 + t * 4
    assert again.backward - plain.backward == plain.layer + plain.lora_forward - upper


def test_packed_weights_are_unpacked_at_each_use():
    attention, mlp = 2 * 4 * 4 + 2 * 4 * 2, 3 * 4 * 6
    weights = attention + mlp
    plain, packed = count(), count(precision="nf4")
    assert packed.attention_per_layer - plain.attention_per_layer == attention
    assert packed.mlp_per_layer - plain.mlp_per_layer == mlp
    assert packed.final == plain.final
    assert packed.lora_forward == plain.lora_forward
    assert packed.backward - plain.backward == weights
    assert packed.generation - plain.generation == 200 * weights
    plain, packed = (count(precision=name, gradient_checkpointing=True) for name in ("bf16", "nf4"))
    assert packed.backward - plain.backward == 2 * weights - 4 * 6  # down_proj is not run again


def test_half_precision_costs_as_much():
    assert count(precision="bf16") == count()


def test_a_numeric_head_is_narrow_both_ways():
    full, narrow = count(), count(numeric_head=2)
    assert full.final - narrow.final == mm(3, 4, 5) - mm(3, 4, 2)
    assert full.backward - narrow.backward == mm(3, 5, 4) - mm(3, 2, 4)


def test_inference_has_no_backward_pass():
    counts = count(inference=True)
    assert (counts.backward, counts.step) == (0, counts.forward)
    assert counts.lora_forward == count().lora_forward > 0
    assert count(inference=True, gradient_checkpointing=True) == counts


@pytest.mark.parametrize("rank", [0, 2])
def test_of_a_prompt_the_last_token_alone_meets_the_head(rank):
    one = exact.count(Workload(QWEN, 1, 64, rank, inference=True, prompt_tokens=64, new_tokens=1))
    assert one.forward - one.generation == 63 * 151_936 * (2 * 896 - 1)


def test_without_a_cache_each_token_is_a_whole_pass():
    total = 0
    for length in range(30, 37):
        one = exact.count(Workload(QWEN, 1, length, 4))
        total += one.forward - (length - 1) * 151_936 * (2 * 896 - 1)
    assert exact.count(Workload(QWEN, 1, 8, 4, prompt_tokens=30, new_tokens=7, kv_cache=False)).generation == total


def test_the_first_layer_is_counted_like_every_other():
    """Although torch spares some of it where adapters alone learn: for the study's model a seventh of a percent."""
    workload = Workload(QWEN, 4, 512, 4)
    above = exact.count(workload).step / exact.count(workload, input_gradients=False).step - 1
    assert 0.0013 < above < 0.0015
    for changes in ({"gradient_checkpointing": True}, {"lora_rank": 0}):  # there, the gradients lead somewhere
        same = Workload(**{"shape": QWEN, "batch": 4, "length": 64, "lora_rank": 4, **changes})
        assert exact.count(same) == exact.count(same, input_gradients=False)
