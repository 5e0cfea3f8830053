"""`lvjobs model convert`: a GGUF file becomes a directory of safetensors that loads as it was."""

import sys

import numpy as np
import pytest
import torch

from lvjobs.cli import main
from lvjobs.errors import UsageError
from lvjobs.forecasting import convert as conversion
from lvjobs.forecasting.codec import ALPHABET
from lvjobs.forecasting.hub import find_model
from lvjobs.forecasting.models import load_base
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy

gguf = pytest.importorskip("gguf")

TOKENS = ["<unk>", "<bos>", "<eos>", *ALPHABET, "a", "b", "ab"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
WIDTH, HEADS, LAYERS, INNER = 32, 2, 1, 64


def write_gguf(path, *, architecture="llama", seed=0):
    """A language model of a few thousand weights."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,), "output": (len(TOKENS), WIDTH)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes[f"blk.0.{name}"] = (WIDTH, WIDTH)
    shapes |= {"blk.0.ffn_gate": (INNER, WIDTH), "blk.0.ffn_up": (INNER, WIDTH), "blk.0.ffn_down": (WIDTH, INNER)}
    shapes |= {"blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype("f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_a_converted_model_is_whole_and_is_the_one_that_was_read(file, tmp_path, monkeypatch, capsys):
    import transformers

    directory = tmp_path / "models" / "small"
    monkeypatch.setattr(sys, "argv", ["lvjobs", "model", "convert", str(file), str(directory)])
    main()
    assert "by its own config.json" in capsys.readouterr().out
    found = find_model(str(directory))
    assert (found.chat_template, found.split) == (True, ())
    config = TrainingConfig(data="unused", model=str(directory))
    model, tokenizer = load_base(config)
    read = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode("1.23,4.56;", add_special_tokens=False)])
    assert ids.shape == (1, 10)
    assert torch.equal(model(ids).logits, read(ids).logits)
    assert tokenizer.chat_template == TEMPLATE
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}, "a lab shares its models"


def test_half_the_size_on_request(file, tmp_path):
    sizes = {}
    for precision in ("fp32", "bf16"):
        conversion.convert(file, tmp_path / precision, precision)
        sizes[precision] = (tmp_path / precision / "model.safetensors").stat().st_size
    assert sizes["bf16"] < 0.6 * sizes["fp32"]


def test_what_cannot_be_converted_is_refused(file, tmp_path, monkeypatch):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"no model")
    for path, words in ((tmp_path / "nowhere.gguf", "no such file"), (other, "no GGUF file")):
        with pytest.raises(UsageError, match=words):
            conversion.convert(path, tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        conversion.convert(file, tmp_path)
    stranger = write_gguf(tmp_path / "stranger.gguf", architecture="abacus")
    with pytest.raises(UsageError, match="no model that transformers can read"):
        conversion.convert(stranger, tmp_path / "out")
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'lvjobs\[gguf\]'"):
        conversion.convert(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gguf", "stranger.gguf"]


@pytest.mark.parametrize("lost", ["weights", "tokenizer"])
def test_what_does_not_come_back_as_it_was_read_is_not_kept(file, tmp_path, monkeypatch, lost):
    import transformers

    if lost == "weights":  # the clean model keeps the random ones that it was made with
        monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
    else:
        real = transformers.PreTrainedTokenizerBase.save_pretrained

        def save(self, path, **options):
            template, self.chat_template = self.chat_template, "another"
            real(self, path, **options)
            self.chat_template = template

        monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", save)
    with pytest.raises(UsageError, match="does not come back"):
        conversion.convert(file, tmp_path / "out")
    assert not list(tmp_path.iterdir())
