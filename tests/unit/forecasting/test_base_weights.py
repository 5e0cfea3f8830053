"""An adapter, a checkpoint and an evaluation stay with the base weights that made them; other weights are refused."""

import hashlib
import shutil

import pytest
import safetensors.torch
import torch
from evaluation_helpers import config_of, data, result, training
from evaluation_helpers import run_through as evaluate_through
from fake_hub import make_model, put_in_cache
from forecasting_helpers import one_thread, run_through, small

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.base_weights import ADAPTER_WEIGHTS, BaseWeights, check_base, sha256_of_weights, write_base
from lvjobs.forecasting.hub import TINY_DIRECTORY, directory_of

__all__ = ["data", "one_thread", "training"]
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

HERE, OTHER = "a" * 64, "b" * 64
WEIGHTS = {"lora_A": torch.ones(2, 3), "lora_B": torch.arange(6, dtype=torch.bfloat16).view(3, 2)}


def sha256sum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def model(tmp_path):
    """A copy of `tiny`, whose weights a test may change."""
    return shutil.copytree(TINY_DIRECTORY, tmp_path / "model")


def change_weights(model):
    """Move one weight by little: nothing but the SHA-256 shows it."""
    path = model / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights[min(weights)].view(-1)[0] += 0.001
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


def test_one_file_of_weights_has_its_own_sha256_and_several_have_one_together(tmp_path):
    one, three = make_model(tmp_path / "one"), make_model(tmp_path / "three", shards=3)
    assert sha256_of_weights(one) == sha256sum(one / "model.safetensors")
    each = "".join(sha256sum(three / f"model-{index:05d}.safetensors") for index in range(3))
    assert sha256_of_weights(three) == hashlib.sha256(each.encode()).hexdigest()


def test_a_model_in_the_hubs_cache_has_the_sha256_of_its_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = make_model(tmp_path / "model")
    digest = sha256_of_weights(model)
    snapshot = put_in_cache(tmp_path / "hub", "lab/small", model)
    weights = snapshot / "model.safetensors"
    blob = tmp_path / "hub" / "models--lab--small" / "blobs" / digest
    blob.parent.mkdir(exist_ok=True)
    weights.rename(blob)
    weights.symlink_to(blob)
    assert sha256_of_weights(directory_of("lab/small")) == digest
    blob.write_bytes(b"")  # the name says it: a file of gigabytes is not read
    assert sha256_of_weights(directory_of("lab/small")) == digest


@pytest.fixture
def adapter(tmp_path):
    """A directory with an adapter's file of weights, as plain PEFT saves it."""
    directory = tmp_path / "adapter"
    directory.mkdir()
    safetensors.torch.save_file(WEIGHTS, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    return directory


def test_an_adapter_of_these_weights_passes_whatever_its_model_was_called_and_one_that_does_not_say(adapter):
    check_base(adapter, BaseWeights("tiny", HERE))
    write_base(adapter, BaseWeights("/elsewhere/tiny", HERE))
    check_base(adapter, BaseWeights("tiny", HERE))


def test_the_adapters_weights_stay_as_they_were_and_no_file_is_added(adapter):
    write_base(adapter, BaseWeights("tiny", HERE))
    assert [path.name for path in adapter.iterdir()] == [ADAPTER_WEIGHTS]
    written = safetensors.torch.load_file(adapter / ADAPTER_WEIGHTS)
    assert {name: (each.dtype, each.tolist()) for name, each in written.items()} == {
        name: (each.dtype, each.tolist()) for name, each in WEIGHTS.items()
    }


def test_equal_adapters_have_equal_bytes(adapter):
    """safetensors writes entries of metadata in an order that changes from call to call."""
    write_base(adapter, BaseWeights("tiny", HERE))
    first = (adapter / ADAPTER_WEIGHTS).read_bytes()
    for _ in range(20):
        safetensors.torch.save_file(WEIGHTS, adapter / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        write_base(adapter, BaseWeights("tiny", HERE))
        assert (adapter / ADAPTER_WEIGHTS).read_bytes() == first


def test_weights_begin_at_a_multiple_of_8_whatever_the_headers_length(adapter):
    lengths = set()
    for digits in range(8):
        write_base(adapter, BaseWeights("tiny", HERE + "0" * digits))
        content = (adapter / ADAPTER_WEIGHTS).read_bytes()
        assert int.from_bytes(content[:8], "little") % 8 == 0
        lengths.add(len(content))
    assert len(lengths) > 1, "headers of several lengths were written"


def test_an_adapter_of_other_weights_is_refused_with_both_sums(adapter):
    write_base(adapter, BaseWeights("lab/small", OTHER))
    with pytest.raises(LvjobsError) as refused:
        check_base(adapter, BaseWeights("tiny", HERE))
    for words in (OTHER[:16], HERE[:16], "lvjobs model check tiny"):
        assert words in str(refused.value)


def test_a_training_does_not_resume_on_other_weights(data, model, tmp_path):
    config = small(data, model=str(model))
    first = run_through(config, tmp_path / "first", stop_at=4)
    with safetensors.safe_open(first.saved[2] / "adapter" / ADAPTER_WEIGHTS, framework="pt") as file:
        assert file.metadata()["base_weights_sha256"] == sha256sum(model / "model.safetensors")
    change_weights(model)
    with pytest.raises(LvjobsError, match="has other weights here"):
        run_through(config, tmp_path / "second", before=first.saved)
    shutil.copytree(TINY_DIRECTORY, model, dirs_exist_ok=True)
    assert run_through(config, tmp_path / "third", before=first.saved).saved[0] == config.steps


def test_an_evaluation_names_the_weights_and_does_not_resume_on_others(training, model, tmp_path):
    config = config_of(training.model_copy(update={"model": str(model)}))
    whole, first = (evaluate_through(config, tmp_path / name, stop_at=stop) for name, stop in (("a", 9), ("b", 1)))
    assert result(whole)[0]["weights_sha256"] == sha256sum(model / "model.safetensors")
    change_weights(model)
    with pytest.raises(LvjobsError, match="with another --seed"):
        evaluate_through(config, tmp_path / "second", before=first.saved)
    step, state, *rest = first.saved
    older = {key: value for key, value in state.items() if key != "weights_sha256"}
    resumed = evaluate_through(config, tmp_path / "third", before=(step, older, *rest))
    assert resumed.series == [(2, 2), (3, 1)]
