"""The counts of torch and those of `exact`, of the same matmuls; the traps that measuring has to avoid."""

import ast
import functools
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.flops import architecture, exact, measured
from lvjobs.flops import workload as rules
from lvjobs.flops.architecture import Architecture, Family, Linear, architecture_of
from lvjobs.flops.conventions import caveats
from lvjobs.flops.workload import Workload

pytestmark = pytest.mark.heavy

QWEN, SMOL, TINY = map(architecture_of, ("qwen2.5-0.5b", "smollm2-135m", "tiny"))
QWEN_6, SMOL_6 = (replace(architecture, layers=6) for architecture in (QWEN, SMOL))
"""The first six layers of 24, and of 30: the others are like them, and each costs as much as the first six."""
WIDE_HEADS = Architecture(2, 24, 40, 3, 1, 16, 30, tied=False)

measure = functools.lru_cache(measured.count)
"""Each workload once: a model of 24 layers takes seconds."""

STUDY = Workload(QWEN, 4, 512, 4)
WORKLOADS = {
    "512": STUDY,
    "128": Workload(QWEN_6, 4, 128, 4, new_tokens=1),
    "all-linear": Workload(QWEN_6, 4, 512, 4, "all-linear", new_tokens=1),
    "gradient checkpointing": Workload(QWEN, 4, 512, 4, gradient_checkpointing=True, new_tokens=1),
    "inference": Workload(QWEN_6, 4, 256, 4, inference=True, new_tokens=1),
    "smollm2": Workload(SMOL_6, 2, 256, 8, kv_cache=False, new_tokens=5),
    "smollm2, numeric head, full": Workload(SMOL_6, 2, 256, numeric_head=14, new_tokens=2),
    "tiny": Workload(TINY, 4, 512, 4),
    "tiny, all-linear": Workload(TINY, 4, 1000, 8, "all-linear"),
    "tiny, all-linear, checkpointing": Workload(TINY, 4, 1000, 8, "all-linear", gradient_checkpointing=True),
    "tiny, full, checkpointing": Workload(TINY, 4, 100, gradient_checkpointing=True),
}
every_workload = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
ODD = {
    "heads wider than the model": Workload(WIDE_HEADS, 2, 32, 2, gradient_checkpointing=True),
    "heads wider than the model, q and v": Workload(WIDE_HEADS, 1, 7, 3, new_tokens=3, kv_cache=False),
}
"""So small that n - 1 additions are not n."""


def test_the_study_s_step():
    counts = measure(STUDY)
    assert counts.forward == 2_114_566_750_208
    assert counts.step == 4_314_298_843_136
    assert counts.embedding == counts.norm == 0


def test_gradient_checkpointing_is_2_58_forward_passes_and_full_fine_tuning_3():
    counts = measure(WORKLOADS["gradient checkpointing"])
    assert round(counts.step / counts.forward, 2) == 2.58
    counts = measure(WORKLOADS["smollm2, numeric head, full"])
    assert counts.step == 3 * counts.forward


@every_workload
def test_exact_is_within_a_percent_of_it(workload):
    """Matmuls alone, as a budget is charged.

    `exact` counts the first layer like every other; that of `tiny`, one of six, is 2.7 % of a step.
    """
    ours, torchs = exact.count(workload, elementwise=False), measure(workload)
    assert ours.forward == pytest.approx(torchs.forward, rel=0.01)
    assert ours.generation == pytest.approx(torchs.generation, rel=0.01)
    assert ours.step == pytest.approx(torchs.step, rel=0.03 if workload is WORKLOADS["tiny"] else 0.01)
    as_torch_spares = exact.count(workload, elementwise=False, input_gradients=False)
    assert as_torch_spares.step == pytest.approx(torchs.step, rel=0.01)
    assert as_torch_spares.backward == pytest.approx(torchs.backward, rel=0.01)


@pytest.mark.parametrize("workload", (WORKLOADS | ODD).values(), ids=WORKLOADS | ODD)
def test_exact_knows_every_matmul(workload, monkeypatch):
    """At torch's price of a matmul, 2 m n p, no part differs by a single FLOP."""
    use_torchs_price(monkeypatch)
    assert exact.count(workload, elementwise=False, input_gradients=False) == measure(workload)


@pytest.mark.parametrize("targets", ["qv", "all-linear"])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_family_with_fused_layers_needs_nothing_but_its_entry(monkeypatch, rank, targets, checkpointing):
    """Phi-3, which lvjobs does not offer: one linear makes queries, keys and values, another gate and up."""
    fused = Family(
        "Phi-3",
        (Linear("qkv_proj", "hidden", ("query", "kv", "kv")), Linear("o_proj", "query", ("hidden",))),
        (
            Linear("gate_up_proj", "hidden", ("intermediate", "intermediate")),
            Linear("down_proj", "intermediate", ("hidden",)),
        ),
        ("qkv_proj",),
    )
    monkeypatch.setattr(architecture, "FAMILIES", {"phi3": fused})
    shape = Architecture(2, 16, 24, 4, 2, 4, 30, family="phi3", tied=False)
    workload = Workload(shape, 2, 9, rank, targets, gradient_checkpointing=checkpointing)
    use_torchs_price(monkeypatch)
    assert exact.count(workload, elementwise=False, input_gradients=False) == measured.count(workload)


def use_torchs_price(monkeypatch):
    for module in (exact, rules):
        monkeypatch.setattr(module, "matmul", lambda m, n, p: 2 * m * n * p)


def test_packed_weights_are_measured_unpacked_and_it_says_so():
    plain, packed = (Workload(TINY, 2, 32, 4, precision=precision) for precision in ("fp32", "nf4"))
    assert measure(packed) == measure(plain)
    assert any("without quantization" in note for note in caveats(packed, ("measured",)))
    assert not caveats(plain, ("measured",))


def test_measuring_leaves_torch_as_it_was():
    import torch

    measured.count(Workload(TINY, 1, 16, 2, gradient_checkpointing=True))
    assert torch.empty(1).device.type == "cpu"
    assert torch.is_grad_enabled()


def test_a_shape_that_torch_cannot_run_is_refused_in_a_line():
    with pytest.raises(UsageError, match="torch cannot measure this") as caught:
        measured.count(Workload(TINY, 10**9, 10**9, 4))
    assert "\n" not in str(caught.value)


def counted(function):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_trap_on_a_cpu_attention_counts_nothing():
    """If this fails, torch has learnt it, and docs/flops.md may drop the trap."""
    import torch

    def attention(device):
        query, key, value = (torch.zeros(1, 2, 64, 16, device=device) for _ in range(3))
        return counted(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value))

    assert attention("cpu") == 0
    assert attention("meta") == 2 * 2 * (2 * 64 * 64 * 16)


@pytest.mark.filterwarnings("ignore")
def test_trap_a_4_bit_layer_counts_nothing():
    import torch

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes

    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    few, many = (counted(lambda rows=rows: layer(torch.zeros(rows, 64))) for rows in (2, 32))
    assert few == many == 0


def test_torch_is_known_to_this_one_module():
    room = Path(measured.__file__).parent
    heavy = {"torch", "transformers", "peft", "bitsandbytes"}
    found = set()
    for path in room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in heavy for name in names):
                found.add((path.name, node.col_offset > 0))
    assert found == {("measured.py", True)}  # and inside its functions alone
