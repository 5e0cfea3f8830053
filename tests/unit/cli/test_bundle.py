"""`lvjobs doctor --bundle`: what a helper needs, without secrets, and listed before it is written."""

import io
import tarfile

import pytest
from remedy_scenes import PRICED, typed_scene
from remedy_tasks import scene_task

WEBHOOK = "https://chat.example.org/hook/T0123456/abcdefgh"
KEY = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def study(tmp_path, monkeypatch, typed):
    scene = typed_scene(tmp_path, monkeypatch, f'{PRICED}\n[notify]\nwebhook = "{WEBHOOK}"\n')
    scene_task(scene)
    typed("submit", "run", "--name", "one")
    scene.go(300)
    log = scene.study.layout.logs / "run" / "7.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"loading with token {KEY}\nsee https://me:hunter22@hub/model\n")
    return scene


def test_it_has_what_a_helper_needs_and_no_secret(study, typed):
    code, out, err = typed("doctor", "--bundle", "help.tar.gz")
    assert (code, err) == (0, "")
    with tarfile.open("help.tar.gz") as archive:
        names = {member.name.removeprefix("help/") for member in archive}
        texts = "\n".join(archive.extractfile(member).read().decode() for member in archive)
    assert {"doctor.json", "versions.txt", "study.toml", "ledger/runs.jsonl", "journals/one/000001.jsonl"} <= names
    assert "logs/run/7.out" in names
    assert not [name for name in names if "safetensors" in name or name.endswith(".h5")]
    assert all(name in out for name in names), "each was listed"
    for secret in (WEBHOOK, "abcdefgh", KEY, "hunter22"):
        assert secret not in texts
    assert "loading with token ***" in texts
    assert typed("doctor", "--bundle", "help.tar.gz")[0] == 2, "it is not overwritten"


def test_in_a_terminal_it_is_written_only_if_the_user_agrees(study, typed, monkeypatch):
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    code, out, _ = typed("doctor", "--bundle", "help.tar.gz")
    assert (code, "Nothing was written." in out) == (0, True)
    assert not (study.root / "help.tar.gz").exists()
