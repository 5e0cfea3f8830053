"""`lvjobs model pull`: the real client against a hub on loopback; what is fetched, what is not, and what is said."""

import json
import os
import socket
import subprocess
import sys

import pytest
from extra_helpers import make_bolt
from fake_hub import commit_of, make_model, serve

pytestmark = pytest.mark.heavy

HUB_ID = "lab/small"
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "600", "HF_HUB_DOWNLOAD_TIMEOUT": "600"}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def pull(home):
    """Types the command with a cache and a hub of the test's own; returns exit code, output and errors."""

    def type_command(endpoint, hub_id=HUB_ID, *arguments, **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, "-m", "lvjobs", "model", "pull", hub_id, *arguments],
            env=kept | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, **PATIENT, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return type_command


@pytest.fixture
def nowhere():
    """The address of a machine where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and nobody else can, while it is held
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_what_a_job_needs_is_fetched_once_and_checked(tmp_path, home, pull, nowhere):
    model = make_model(tmp_path / "model", shards=2)
    for name in ("README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors", "merges.txt"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("something else")
    with serve({HUB_ID: model}) as (url, fetched):
        code, out, err = pull(url, HUB_ID, "--json")
        assert code == 0, err
        assert sorted(fetched) == [
            "config.json",
            "merges.txt",
            "model-00000.safetensors",
            "model-00001.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        fetched.clear()
        answer = json.loads(out)
        assert answer["directory"] == str(home / "hub" / "models--lab--small" / "snapshots" / commit_of(model))
        assert (answer["parameters"], answer["card"], answer["chat_template"]) == (24, None, True)
        assert pull(url)[0] == 0
        assert fetched == [], "what is there already is not fetched again"
    code, out, _ = pull(nowhere)
    assert code == 0, "it is whole: no network is needed"
    assert out.startswith("lab/small: complete, in ")


def test_what_is_not_whole_is_named_and_a_later_pull_fetches_what_is_missing(tmp_path, home, pull):
    whole, half = make_model(tmp_path / "whole"), make_model(tmp_path / "half")
    (half / "model.safetensors").unlink()
    with serve({HUB_ID: half}) as (url, _):
        code, out, err = pull(url)
    assert (code, out) == (2, "")
    assert "lacks model.safetensors" in err
    with serve({HUB_ID: whole}) as (url, fetched):
        assert pull(url)[0] == 0
        assert fetched == ["model.safetensors"]


@pytest.mark.parametrize(
    ("hub_id", "words"),
    [
        ("lab/nothing", ["no model 'lab/nothing'", "hf auth login"]),
        ("lab/gated", ["accepted its terms", "hf auth login"]),
        ("a/b/c", ["no hub id", "Qwen/Qwen2.5-0.5B-Instruct"]),
        ("tiny", ["shipped", "nothing to pull"]),
    ],
)
def test_what_cannot_be_pulled_is_one_line(home, pull, hub_id, words):
    with serve({}, refused={"lab/gated"}) as (url, _):
        code, out, err = pull(url, hub_id)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    for word in words:
        assert word in err
    assert not list(home.rglob("snapshots"))


def test_a_chronos_model_is_whole_without_a_tokenizer(tmp_path, home, pull):
    with serve({HUB_ID: make_bolt(tmp_path / "bolt")}) as (url, fetched):
        code, out, err = pull(url, HUB_ID)
    assert (code, f"--baseline chronos:{HUB_ID}" in out) == (0, True), err
    assert sorted(fetched) == ["config.json", "model.safetensors"]


def test_no_network_is_one_line(pull, nowhere):
    for variables, words in (({}, ["login node", HUB_ID]), ({"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE", "unset"])):
        code, out, err = pull(nowhere, **variables)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        for word in words:
            assert word in err
