"""Refusals, in a line, of workloads that cannot be counted."""

import pytest

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.workload import PARTS, Workload

TINY = architecture_of("tiny")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "batch size = 0"),
        ({"length": -1}, "context length = -1"),
        ({"length": 10**9 + 1}, "context length = 1000000001: give a number from 1 to 1,000,000,000"),
        ({"lora_rank": -1}, "LoRA rank = -1"),
        ({"numeric_head": 0}, "numeric head = 0"),
        ({"numeric_head": 19}, "numeric head = 19: give a number from 1 to 18"),
        ({"prompt_tokens": 0}, "prompt tokens = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"new_tokens": 0}, "new tokens = 0"),
        ({"lora_targets": "k"}, "'k': choose from qv, all-linear"),
        ({"precision": "int8"}, "'int8': choose from fp32, bf16, nf4"),
        ({"precision": "nf4", "lora_rank": 0}, "nf4 weights cannot learn"),
    ],
    ids=str,
)
def test_what_cannot_be(changes, words):
    with pytest.raises(UsageError, match=words):
        Workload(**{"shape": TINY, "batch": 4, "length": 64, "lora_rank": 4, **changes})


def test_packed_weights_that_do_not_learn_may_be_counted():
    assert Workload(TINY, 4, 64, lora_rank=0, precision="nf4", inference=True).tokens == 256


def test_adapters_sit_where_the_run_puts_them():
    def names(targets):
        return [linear.name for linear in Workload(TINY, 4, 64, 4, targets).adapted]

    assert names("qv") == ["q_proj", "v_proj"]
    assert names("all-linear") == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert Workload(TINY, 4, 64, lora_rank=0).adapted == ()


def test_the_parts_have_the_promised_names():
    assert " ".join(PARTS) == (
        "embedding attention_per_layer mlp_per_layer norm layer final lora_forward forward backward step generation"
    )
