"""Properties of every convention and every shape."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.flops.architecture import Architecture
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.workload import PARTS, Workload, series_sum

sizes = st.integers(1, 40)


@st.composite
def shapes(draw):
    kv_heads, group, head_width = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 16))
    heads = kv_heads * group
    return Architecture(
        draw(st.integers(1, 5)), heads * head_width, draw(sizes), heads, kv_heads, head_width, draw(st.integers(2, 90))
    )


@st.composite
def workloads(draw):
    rank = draw(st.integers(0, 8))
    inference = draw(st.booleans())
    return Workload(
        shape=draw(shapes()),
        batch=draw(st.integers(1, 5)),
        length=draw(sizes),
        lora_rank=rank,
        lora_targets=draw(st.sampled_from(["qv", "all-linear"])),
        precision=draw(st.sampled_from(["fp32", "bf16", "nf4"] if rank or inference else ["fp32", "bf16"])),
        gradient_checkpointing=draw(st.booleans()),
        numeric_head=draw(st.sampled_from([None, 1, 2])),
        prompt_tokens=draw(sizes),
        new_tokens=draw(sizes),
        samples=draw(st.integers(1, 4)),
        kv_cache=draw(st.booleans()),
        inference=inference,
    )


def count(name, workload):
    return CONVENTIONS[name].count(workload)


every_convention = pytest.mark.parametrize("name", BINDING)


@every_convention
@given(workloads())
def test_the_parts_add_up(name, workload):
    counts = count(name, workload)
    layers = workload.shape.layers
    parts = counts.attention_per_layer + counts.mlp_per_layer + 2 * counts.norm
    assert counts.layer == parts + 2 * workload.tokens * workload.shape.width
    assert counts.forward == counts.embedding + layers * counts.layer + counts.final + counts.lora_forward
    assert counts.step == counts.forward + counts.backward
    assert all(type(value) is int and value >= 0 for value in asdict(counts).values())
    assert tuple(asdict(counts)) == PARTS


@every_convention
@given(workloads(), st.sampled_from(["length", "batch"]))
def test_more_tokens_cost_more(name, workload, what):
    more = count(name, replace(workload, **{what: getattr(workload, what) + 1}))
    less = count(name, workload)
    assert more.forward > less.forward
    assert more.step > less.step
    assert more.generation == less.generation


@every_convention
@given(workloads())
def test_a_wider_adapter_costs_more(name, workload):
    workload = replace(workload, lora_rank=max(workload.lora_rank, 1))
    more, less = (count(name, replace(workload, lora_rank=workload.lora_rank + extra)) for extra in (1, 0))
    if name == "published-formula":  # floored once, and no adapter in its forward pass
        assert more.step >= less.step
        assert more.forward == less.forward
    else:
        assert more.forward > less.forward
        assert more.step > less.step
        assert more.generation > less.generation


@every_convention
@given(workloads())
def test_a_cache_spares_work(name, workload):
    workload = replace(workload, new_tokens=workload.new_tokens + 1)
    cached, anew = (count(name, replace(workload, kv_cache=on)).generation for on in (True, False))
    assert cached < anew
    one = replace(workload, new_tokens=1, samples=1)
    assert count(name, replace(one, kv_cache=True)) == count(name, replace(one, kv_cache=False))


@every_convention
@given(workloads())
def test_a_longer_forecast_costs_more(name, workload):
    less = count(name, workload).generation
    assert count(name, replace(workload, new_tokens=workload.new_tokens + 1)).generation > less
    assert count(name, replace(workload, prompt_tokens=workload.prompt_tokens + 1)).generation > less


@every_convention
@given(workloads(), st.integers(2, 20))
def test_samples_share_the_prompt_that_is_kept_and_nothing_else(name, workload, samples):
    one = count(name, replace(workload, samples=1)).generation
    prompt = count(name, replace(workload, samples=1, new_tokens=1)).generation if workload.kv_cache else 0
    assert count(name, replace(workload, samples=samples)).generation == prompt + samples * (one - prompt)


@given(workloads())
def test_exact_is_below_the_rules_unless_it_runs_layers_again(workload):
    workload = replace(workload, gradient_checkpointing=False, precision="fp32", lora_rank=max(workload.lora_rank, 1))
    exact, official = count("exact", workload), count("official", workload)
    assert exact.forward <= official.forward
    assert exact.generation <= official.generation


@settings(max_examples=50)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9), st.integers(-50, 50), st.integers(0, 60))
def test_a_series_is_summed_exactly(a, b, c, start, terms):
    def polynomial(x):
        return a * x * x + b * x + c

    assert series_sum(polynomial, start, terms) == sum(polynomial(start + step) for step in range(terms))
