"""Forecasts beside those of another decoder, written from the paper with transformers and PEFT alone.

It knows nothing of the codec, the grammar, the cache or the batches of lvjobs: one series at a time, and the whole
text is read again for every digit.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from forecasting_helpers import one_thread
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import lvjobs.forecasting
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.models import attach_adapter, load_base
from lvjobs.forecasting.tokens import Characters
from lvjobs.study.params import TrainingConfig

__all__ = ["one_thread"]  # a fixture
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # PEFT's, of transformers
]

MODEL = Path(lvjobs.forecasting.__file__).parent / "tiny"
HISTORY, HORIZON = 50, 3


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter that changes every forecast: both of its matrices are random."""
    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL), config).save_pretrained(path)
    return path


@torch.inference_mode()
def decode_alone(model, tokenizer, history, horizon):
    """LLMTIME of one series (steps, 2): values 0.00 to 9.99, `,` between variables, `;` after a step; greedy digits."""
    low, high = history.min(axis=0), history.max(axis=0)
    offset = low - 0.3 * (high - low)
    unit = np.quantile(history - offset, 0.99, axis=0) / 6
    text = "".join(f"{x:.2f},{y:.2f};" for x, y in (history - offset) / unit)
    digits = torch.tensor([tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)])
    begin = len(text)
    for place in "#.##,#.##;" * horizon:
        if place == "#":
            ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
            text += str(int(model(input_ids=ids).logits[0, -1, digits].argmax()))
        else:
            text += place
    steps = [[float(value) for value in step.split(",")] for step in text[begin:].rstrip(";").split(";")]
    return np.array(steps) * unit + offset


@pytest.mark.parametrize("tuned", [False, True], ids=["the base model", "with an adapter"])
def test_another_decoder_gives_the_same_forecasts(adapter, tuned):
    series = solve(draw_systems(11, 6), sample_times())[:, :HISTORY]
    # the layout of those alone that write one digit before the point is what the other decoder knows
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL).eval(), AutoTokenizer.from_pretrained(MODEL)
    if tuned:
        plain = PeftModel.from_pretrained(plain, adapter).eval()
    base, ours = load_base(TrainingConfig(data="unused"))
    model = attach_adapter(base, adapter) if tuned else base
    codec = Codec()
    made = sample(model, Characters(ours, "tiny", codec), codec, series, HORIZON, decoding=Decoding(batch=4))[0]
    expected = np.stack([decode_alone(plain, tokenizer, each, HORIZON) for each in series])
    assert np.allclose(made, expected, rtol=0, atol=1e-12)
    assert len({value.tobytes() for value in made}) == len(made)


def test_the_adapter_changes_the_forecasts(adapter):
    """Else the test above would compare the base model twice."""
    series = solve(draw_systems(11, 1), sample_times())[0, :HISTORY]
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL).eval(), AutoTokenizer.from_pretrained(MODEL)
    before = decode_alone(plain, tokenizer, series, HORIZON)
    after = decode_alone(PeftModel.from_pretrained(plain, adapter).eval(), tokenizer, series, HORIZON)
    assert not np.allclose(before, after)
