"""Cards and config.json files: the shapes are the published models', and what is no such shape is refused in a line."""

import json

import pytest

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import CARDS, SHORT_NAMES, TINY_CONFIG, architecture_of, hub_id_of, parse_config

PARAMETERS = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "smollm2-135m": 134_515_008,
    "tiny": 991_616,
}
"""As the models' own pages have them (`tiny`: docs/tiny.md)."""


@pytest.mark.parametrize("name", [*SHORT_NAMES, "tiny"])
def test_a_shape_has_its_model_s_parameters(name):
    shape = architecture_of(name)
    d, q, kv = shape.width, shape.query_width, shape.kv_width
    biases = q + 2 * kv if shape.family == "qwen2" else 0
    layer = 2 * d * q + 2 * d * kv + 3 * d * shape.intermediate + biases + 2 * d
    embeddings = shape.vocabulary * d * (1 if shape.tied else 2)
    assert embeddings + shape.layers * layer + d == PARAMETERS[name]


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct"])
def test_a_model_goes_by_all_its_names(name):
    assert architecture_of(name) == CARDS["qwen2.5-0.5b"]


def test_smollm2_is_a_llama():
    assert architecture_of("HuggingFaceTB/SmolLM2-135M-Instruct").family == "llama"


def test_a_config_is_read_from_its_file_or_directory(tmp_path):
    (tmp_path / "config.json").write_bytes(TINY_CONFIG.read_bytes())
    assert architecture_of(str(tmp_path)) == architecture_of(str(tmp_path / "config.json")) == architecture_of("tiny")


@pytest.mark.parametrize("name", ["gpt-17", "~nobody-of-that-name/model", "", "a\0b"])
def test_an_unknown_model_names_what_would_do(name):
    with pytest.raises(UsageError, match=r"neither 'tiny'.*qwen2\.5-7b, smollm2-135m") as caught:
        architecture_of(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": None}, "no 'hidden_size'"),
        ({"hidden_size": "128"}, "hidden_size = '128'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"vocab_size": True}, "vocab_size = True"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3 does not divide 4"),
        ({"model_type": "qwen2_moe"}, "model_type = 'qwen2_moe'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_a_config_of_another_kind_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        parse_config({**json.loads(TINY_CONFIG.read_text()), **changes}, "config.json")


@pytest.mark.parametrize("text", ["", "[1]", "{", b"\xff\xfe"], ids=repr)
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"config\.json") as caught:
        architecture_of(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_what_a_config_leaves_out_is_transformers_default():
    config = json.loads(TINY_CONFIG.read_text())
    for key in ("num_key_value_heads", "head_dim", "tie_word_embeddings"):
        config.pop(key, None)
    shape = parse_config({**config, "model_type": "llama"}, "config.json")
    assert (shape.kv_heads, shape.head_width, shape.tied, shape.family) == (4, 32, False, "llama")


def test_heads_need_not_be_as_wide_as_the_model():
    shape = parse_config({**json.loads(TINY_CONFIG.read_text()), "head_dim": 64}, "config.json")
    assert (shape.width, shape.query_width, shape.kv_width) == (128, 256, 256)


def test_a_short_name_stands_for_a_hub_id():
    assert hub_id_of("qwen2.5-0.5b") == "Qwen/Qwen2.5-0.5B"
    assert hub_id_of("Qwen2.5-0.5B-instruct") == "Qwen/Qwen2.5-0.5B-Instruct"
    assert hub_id_of("smollm2-135m-instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert hub_id_of("tiny") == "tiny"
    assert hub_id_of("some/Model") == "some/Model"
