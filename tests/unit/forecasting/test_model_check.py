"""Base models are checked before anything is submitted, and without torch: here, whole, and fit for series."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from extra_helpers import make_bolt
from fake_hub import SHAPE, make_model, put_in_cache

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import architecture_of, card_of
from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.hub import directory_of, find_model, lacking

pytestmark = pytest.mark.heavy

HUB_ID = "lab/small"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def lvjobs(tmp_path, monkeypatch, typed):
    """Types a command in a study with data; returns its exit code, output and errors."""
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "study" / "data.h5", systems=10, seed=0)
    return typed


def test_a_directory_a_cached_model_and_tiny_are_found(cache, model):
    snapshot = put_in_cache(cache, HUB_ID, model)
    assert directory_of(HUB_ID) == snapshot
    assert directory_of(str(model)) == model
    assert (directory_of("lab/other"), directory_of("no hub id!")) == (None, None)
    found = find_model(HUB_ID)
    assert (found.parameters, found.chat_template, found.split) == (24, True, ())
    assert find_model("tiny").parameters == 991_616
    assert not find_model("tiny").chat_template


def test_parameters_of_all_shards_are_counted_and_packed_ones_are_not(tmp_path):
    assert find_model(str(make_model(tmp_path / "sharded", shards=3))).parameters == 24
    packed = make_model(tmp_path / "packed")
    safetensors.numpy.save_file({"weight": np.zeros(7, dtype="u1")}, packed / "model.safetensors")
    assert find_model(str(packed)).parameters is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_is_not_whole_is_refused(cache, model, name):
    snapshot = put_in_cache(cache, HUB_ID, model)
    (snapshot / name).unlink()
    # without its config.json no client finds it at all
    with pytest.raises(UsageError, match=f"{'neither' if name == 'config.json' else name}.*lvjobs model pull {HUB_ID}"):
        find_model(HUB_ID)


def test_a_shard_that_is_missing_is_named(tmp_path):
    model = make_model(tmp_path / "sharded", shards=2)
    (model / "model-00001.safetensors").unlink()
    with pytest.raises(UsageError, match=r"lacks model-00001\.safetensors; copy it again"):
        find_model(str(model))


@pytest.mark.parametrize(
    ("change", "words"), [(lambda data: data[:-3], "cut short"), (lambda data: b"<html>not found</html>", "no weights")]
)
def test_weights_that_are_damaged_are_refused(model, change, words):
    path = model / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError, match=words):
        find_model(str(model))


def test_a_tokenizer_that_merges_is_refused(tmp_path):
    find_model(str(make_model(tmp_path / "harmless", merges=[("-", "-")])))
    with pytest.raises(UsageError, match=r"merges digits or separators \('12'\)") as caught:
        find_model(str(make_model(tmp_path / "merging", merges=[("1", "2")])))
    assert caught.value.exit_code == 2
    model = make_model(tmp_path / "broken")
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read as a tokenizer"):
        find_model(str(model))


def test_a_tokenizer_of_another_kind_is_left_to_the_job(model):
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    assert find_model(str(model)).split is None


def test_the_early_check_is_the_jobs_own():
    """tokenizer.json alone reads as transformers does, for the tokenizer that is here."""
    assert find_model("tiny").split == ()


def test_any_cached_model_of_a_known_kind_can_be_counted(cache, model):
    with pytest.raises(UsageError, match="lvjobs model pull"):
        architecture_of(HUB_ID)
    put_in_cache(cache, HUB_ID, model)
    assert architecture_of(HUB_ID).width == SHAPE["hidden_size"]
    assert (card_of(HUB_ID), card_of("Qwen/Qwen2.5-0.5B-Instruct"), card_of("tiny")) == (None, "qwen2.5-0.5b", None)


REFUSED = {
    "nowhere": (["--model", "lab/other"], ["'lab/other'", "lvjobs model pull lab/other", "HF_HOME"]),
    "card": (["--model", "qwen2.5-0.5b-instruct"], ["lvjobs model pull Qwen/Qwen2.5-0.5B-Instruct"]),
    "not whole": (["--model", HUB_ID], [HUB_ID, "model.safetensors", "lvjobs model pull lab/small"]),
    "merging": (["--model", "../merging"], ["merging", "merges digits or separators ('12')"]),
    "no template": (["--set", "format=instruct"], ["'tiny'", "chat template", '"raw"']),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("command", ["submit train", "submit train --dry-run", "sweep one", "evaluate --zero-shot raw"])
def test_a_model_that_no_job_could_use_is_refused_with_nothing_written(tmp_path, cache, model, lvjobs, command, kind):
    make_model(tmp_path / "merging", merges=[("1", "2")])
    (put_in_cache(cache, HUB_ID, model) / "model.safetensors").unlink()
    study = tmp_path / "study"
    (study / "study.toml").write_text('[[stage]]\nname = "one"\ngrid = { lora_rank = [2, 4] }\n')
    arguments, words = REFUSED[kind]
    if command.startswith("evaluate") and kind == "no template":
        command, arguments = "evaluate --zero-shot instruct", []
    code, out, err = lvjobs(*command.split(), *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    for word in words:
        assert word in err
    assert sorted(path.name for path in study.iterdir()) == ["data.h5", "study.toml"]


def test_a_run_that_exists_is_not_asked_for_its_model_again(cache, model, lvjobs):
    snapshot = put_in_cache(cache, HUB_ID, model)
    profile = ("--profile", "local", "--model", HUB_ID, "--name", "one", "--steps", "1")
    code, _, err = lvjobs("submit", "train", *profile)
    assert code == 0, err
    assert lvjobs("cancel", "one")[0] == 0
    (snapshot / "model.safetensors").unlink()
    code, out, err = lvjobs("submit", "train", *profile)
    assert code == 0, err
    assert "already exists" in out
    assert lvjobs("submit", "train", *profile, "--seed", "1", "--name", "two")[0] == 2


def test_check_says_what_there_is_to_know(cache, model, lvjobs):
    snapshot = put_in_cache(cache, HUB_ID, model)
    code, out, err = lvjobs("model", "check", HUB_ID)
    assert (code, err) == (0, "")
    weights = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    words = ("24", "one token per character", "has a chat template", "its own config.json", f"SHA-256 {weights}")
    for each in (str(snapshot), *words):
        assert each in out
    assert json.loads(lvjobs("model", "check", HUB_ID, "--json")[1])["weights_sha256"] == weights
    code, out, _ = lvjobs("model", "check", "tiny", "--json")
    assert code == 0
    answer = json.loads(out)
    assert (answer["parameters"], answer["architecture"]["layers"], answer["problem"]) == (991_616, 6, None)
    assert lvjobs("model", "check", "lab/other")[0] == 2


def test_check_notices_what_cannot_be_counted(model, lvjobs):
    (model / "config.json").write_text(json.dumps(SHAPE | {"model_type": "mixtral"}))
    code, out, err = lvjobs("model", "check", str(model))
    assert code == 2
    assert "model_type = 'mixtral' cannot be counted" in out
    assert "no run of it can be submitted" in err


def test_a_chronos_model_is_shown_as_a_baseline_and_is_no_model_to_train(cache, lvjobs, tmp_path):
    """From the cache that `model pull` fills: it has no tokenizer, and is whole without one."""
    put_in_cache(cache, HUB_ID, make_bolt(tmp_path / "bolt"))
    code, out, err = lvjobs("model", "check", HUB_ID)
    assert (code, f"--baseline chronos:{HUB_ID}" in out, "ChronosBoltPipeline" in out) == (0, True, True), err
    code, out, err = lvjobs("model", "check", HUB_ID, "--json")
    found = json.loads(out)
    assert (code, found["pipeline"], found["model"]) == (0, "ChronosBoltPipeline", HUB_ID)
    assert lacking(directory_of(HUB_ID)) == [], "as `pull` asks, too"
    code, _, err = lvjobs("submit", "train", "--model", HUB_ID)
    assert (code, "Chronos" in err or HUB_ID in err) == (2, True)
    (tmp_path / "study" / "study.toml").touch()
    code, out, err = lvjobs("evaluate", "--zero-shot", "raw", "--baseline", f"chronos:{HUB_ID}", "--dry-run")
    assert code == 0, err
