"""Adapters that come from elsewhere: taken up exactly, or refused; what plain PEFT lets pass is not let pass here."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.models import AdapterMismatch, attach_adapter, load_base
from lvjobs.study.params import TrainingConfig

# plain peft's own
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

IDS = torch.arange(3, 15)[None]


def base():
    return load_base(TrainingConfig(data="unused"))[0]


def trained(directory, config):
    """An adapter of plain PEFT's, all its weights moved; its directory, and what the model then says."""
    torch.manual_seed(1)
    model = get_peft_model(base(), config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn_like(weights) * 0.1)
    model.save_pretrained(directory, save_embedding_layers=False)
    return directory, model.eval()(input_ids=IDS).logits.detach()


def lora(**options):
    return LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], **options)


KINDS = {
    "plain": lora(),
    "rank-stabilised": lora(use_rslora=True, lora_alpha=3),
    "dora": lora(use_dora=True),
    "with a head": lora(modules_to_save=["lm_head"]),
    "ia3": IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_kind_of_adapter_it_is_the_logits_are_those_of_plain_peft(tmp_path, kind):
    directory, logits = trained(tmp_path, KINDS[kind])
    assert torch.equal(attach_adapter(base(), directory)(input_ids=IDS).logits, logits)
    assert not torch.equal(base().eval()(input_ids=IDS).logits, logits)


def drop(directory, part):
    path = directory / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(path)
    left = {name: tensor for name, tensor in weights.items() if part not in name}
    assert 0 < len(left) < len(weights)
    safetensors.torch.save_file(left, path)


@pytest.mark.parametrize("part", ["v_proj", "layers.3.", "lora_B"])
def test_an_adapter_that_lacks_weights_is_refused_though_plain_peft_takes_it(tmp_path, part):
    directory, logits = trained(tmp_path, lora())
    drop(directory, part)
    with pytest.warns(UserWarning, match="missing adapter keys"):
        plain = PeftModel.from_pretrained(base(), directory).eval()
    assert not torch.equal(plain(input_ids=IDS).logits, logits), "it goes on, with another model"
    with pytest.raises(AdapterMismatch, match="lacks"):
        attach_adapter(base(), directory)


def test_an_adapter_for_another_model_is_refused(tmp_path):
    directory, _ = trained(tmp_path / "other", lora())
    config = json.loads((directory / "adapter_config.json").read_text())
    for change, words in (
        ({"target_modules": ["c_attn"]}, "no adapter for this model"),
        ({"target_modules": ["q_proj"]}, "too many"),
        ({"r": 4}, "has the shape"),
    ):
        (directory / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(LvjobsError, match=words):
            attach_adapter(base(), directory)
    (directory / "adapter_config.json").unlink()
    with pytest.raises(LvjobsError, match=r"has no adapter_config\.json"):
        attach_adapter(base(), directory)


def test_4_bit_layers_keep_a_kernel_that_has_a_gradient():
    """bitsandbytes packs weights anew when a model is first evaluated, for a kernel without one, on some CPUs."""
    model, _ = load_base(TrainingConfig(data="unused", quantization="nf4"))
    flags = [m.support_avx512bf16_for_cpu for m in model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert len(flags) == 6 * 7
    assert not any(flags)
    adapted = get_peft_model(model, lora())
    with torch.no_grad():
        adapted.eval()(input_ids=IDS)
    adapted.train()(input_ids=IDS, labels=IDS).loss.backward()
    gradients = {n: p.grad for n, p in adapted.named_parameters() if "lora_B" in n}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


_ADAPT = """
import sys
from lvjobs.forecasting.models import add_adapter, load_base
from lvjobs.study.params import TrainingConfig

def adapted(quantization):
    model, _ = load_base(TrainingConfig(data="unused", quantization=quantization))
    return {type(each).__module__ for each in add_adapter(model, TrainingConfig(data="unused")).modules()}

plain = adapted("none")
assert "bitsandbytes" not in sys.modules, "two seconds of every attempt's start"
assert not any("bnb" in name for name in plain), plain
assert "peft.tuners.lora.bnb" in adapted("nf4")
"""


def test_bitsandbytes_is_imported_where_a_model_is_quantized_and_only_there():
    done = subprocess.run([sys.executable, "-c", _ADAPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
