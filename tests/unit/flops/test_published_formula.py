"""The published study, to the last digit; and what it printed that its formula does not give."""

import pytest

from lvjobs.flops import official
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.published import count, published
from lvjobs.flops.workload import Workload

QWEN = architecture_of("qwen2.5-0.5b")


def step(length, rank):
    return count(Workload(QWEN, 4, length, rank)).step


def test_table_1_to_the_last_digit():
    counts = count(Workload(QWEN, 4, 512, 4))
    assert counts.embedding == 1_835_008
    assert counts.attention_per_layer == 11_444_391_936
    assert counts.mlp_per_layer == 53_670_576_128
    assert counts.norm == 7_340_042
    assert counts.layer == 65_133_318_164
    assert counts.final == 1_095_809_546
    assert counts.lora_forward == 0
    assert counts.forward == 1_564_297_280_490
    assert counts.step == 1_592_231_160_498
    assert count(Workload(QWEN, 4, 512)).step == 4_692_891_841_470


def test_its_totals():
    base = 5000 * step(512, 4)
    first = sum(1500 * step(512, rank) for rank in (2, 4, 8))
    second = sum(500 * step(length, 8) for length in (128, 512, 768))
    final = 10_000 * step(768, 8)
    total = base + first + second + final
    assert [f"{flops:.3e}" for flops in (base, first, second, final, total)] == [
        "7.961e+15",
        "7.186e+15",
        "2.255e+15",
        "2.503e+16",
        "4.243e+16",
    ]


@pytest.mark.parametrize(("targets", "rank"), [("qv", 4), ("all-linear", 8)])
def test_a_lora_step_is_floored_once(targets, rank):
    counts = count(Workload(QWEN, 4, 512, rank, targets))
    d, f = 896, 4864
    frozen = 2 * d * d if targets == "qv" else 4 * d * d + 3 * d * f
    lora = rank * (4 * d if targets == "qv" else 8 * d + 3 * (d + f))
    assert counts.step == counts.forward * (frozen + 2 * lora) // frozen
    assert counts.backward == counts.step - counts.forward > 0


def test_the_published_tables_are_reproduced_or_say_why():
    found = published()
    assert len(found.table_1) == 9
    for figure in found.table_1:
        assert figure.printed == f"{figure.formula:,}"
        assert not figure.why
    first, total = (figure for figure in found.table_4 if figure.printed)
    assert (first.printed, f"{first.formula:.3e}") == ("8.1e15", "7.186e+15")
    assert "one r 8 run of 5,000 steps (8.101e+15)" in first.why
    assert (total.printed, f"{total.formula:.3e}") == ("4.5e16", "4.243e+16")
    assert "4.32e16" in total.why
    assert total.formula == sum(figure.formula for figure in found.table_4[:-1])
    backward, parameters = found.elsewhere
    assert (backward.printed, backward.formula) == ("3.4e5", None)
    assert "344,064" in backward.why
    assert f"{344_064:.1e}" == "3.4e+05"
    assert (parameters.printed, parameters.formula) == ("215,040", None)
    assert "cannot be derived" in parameters.why


def test_the_rules_stand_beside_the_formula_with_the_reason_where_they_differ():
    found = published()
    rules = official.count(Workload(QWEN, 4, 512, 4))
    by_name = {figure.name: figure for figure in (*found.table_1, *found.table_4)}
    assert by_name["attention, a layer"].official == rules.attention_per_layer
    assert by_name["final"].official == rules.final
    assert by_name["LoRA step"].official == rules.step
    assert f"{by_name['total'].official:.3e}" == "1.775e+17"
    assert by_name["total"].official == sum(figure.official for figure in found.table_4[:-1])
    for figure in by_name.values():
        assert bool(figure.difference) == (figure.official != figure.formula), figure.name


def test_a_numeric_head_is_as_narrow_here():
    full, narrow = (count(Workload(QWEN, 4, 512, 4, numeric_head=head)) for head in (None, 14))
    assert full.final - narrow.final == 4 * (151_936 - 14) * (2 * 896 - 1)


def test_inference_has_no_step_beyond_the_forward_pass():
    counts = count(Workload(QWEN, 4, 512, 4, inference=True))
    assert (counts.backward, counts.step) == (0, counts.forward)
    assert counts.forward == 1_564_297_280_490


def test_of_a_forecast_only_the_last_token_meets_the_head():
    """A prompt of 64 and one new token is one forward pass: the first new token comes out of it."""
    one = count(Workload(QWEN, 1, 64, prompt_tokens=64, new_tokens=1))
    assert one.generation == one.forward
