"""`lvjobs evaluate`: what it refuses, in one line; and an evaluation from the command line to its table."""

import json
import re

import pytest

from lvjobs.forecasting.data import make_dataset
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import write_checkpoint


@pytest.fixture
def lvjobs(tmp_path, monkeypatch, typed):
    """Types a command in a study with data; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "data.h5", systems=20, seed=0)
    (tmp_path / "study.toml").write_text(
        "[train]\nsteps = 4\ncontext_length = 48\nbatch_size = 1\ncheckpoint_every = 2\n"
    )
    return typed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["RUN", "--zero-shot", "--adapter"]),
        (["one", "--zero-shot", "raw"], ["RUN", "--zero-shot", "--adapter"]),
        (["one"], ["no run 'one'", "lvjobs status"]),
        (["--adapter", "nowhere"], ["nowhere", "adapter_config.json"]),
        (["--zero-shot", "raw", "--samples", "3", "--temperature", "0"], ["--temperature", "same"]),
        (["--zero-shot", "raw", "--seed", "abc"], ["--seed", "abc", "not a number"]),
        (["--zero-shot", "raw", "--data", "other.h5"], ["other.h5", "no such file"]),
        (["--zero-shot", "raw", "--model", "gpt-17"], ["gpt-17"]),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(tmp_path, lvjobs, arguments, words):
    code, out, err = lvjobs("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_is_evaluated_by_its_file(tmp_path, lvjobs):
    """Its adapter is copied once, and stays though the run prunes the checkpoint."""
    layout = RunLayout(tmp_path / "checkpoints" / "one")
    layout.root.mkdir(parents=True)
    saver = {"adapter": lambda directory: (directory / "adapter_config.json").write_text("{}")}
    path, _ = write_checkpoint(layout, CheckpointName(1, 4), saver, {})
    for _ in range(2):
        code, _, err = lvjobs("evaluate", "--adapter", str(path), "--series", "2", "--dry-run")
        assert code == 0, err
        (copy,) = (tmp_path / ".lvjobs" / "adapters").iterdir()
        assert (copy / "adapter" / "adapter_config.json").read_text() == "{}"
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = lvjobs("evaluate", "--adapter", str(path), "--dry-run")
    assert (code, out) == (2, "")
    assert "is not a checkpoint that can be used: adapter/adapter_config.json is not what was written" in err


def test_the_base_model_forecasts_every_fold_of_a_k_fold_split(lvjobs):
    asked = ["evaluate", "--zero-shot", "raw", "--set", "split=k-fold", "--set", "folds=3", "--dry-run"]
    for more, endings in ([], ["-f0", "-f1", "-f2"]), (["--split", "random"], [""]):
        code, out, err = lvjobs(*asked, *more)
        assert code == 0, err
        assert re.findall(r"checkpoints/eval-zero-shot-raw-tiny(-f\d)?-", out) == endings


def test_a_dry_run_shows_the_cost_and_submits_nothing(tmp_path, lvjobs):
    code, out, err = lvjobs("evaluate", "--zero-shot", "raw", "--series", "2", "--dry-run", "--json")
    assert code == 0, err
    answer = json.loads(out)
    (stage,) = answer["estimate"]["stages"]
    assert stage["name"] == "evaluate"
    assert stage["evaluation"]["official"] > 0
    assert stage["training"]["official"] == 0
    assert not (tmp_path / "checkpoints").exists()


def test_a_dry_run_with_an_evaluation_shows_the_trainings_script(lvjobs):
    code, out, err = lvjobs("submit", "train", "--name", "one", "--evaluate", "--dry-run")
    assert code == 0, err
    assert out.count("-m lvjobs.worker") == 1
    assert "checkpoints/one" in out


@pytest.mark.slow
def test_a_run_and_its_evaluation_from_one_command_to_the_table(tmp_path, lvjobs):
    code, out, err = lvjobs("submit", "train", "--name", "one", "--evaluate", "--wait")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(lvjobs("status", "--json")[1])["runs"]}
    (name,) = {row for row in rows if row != "one"}
    for _ in range(60):
        if rows[name]["state"] == "completed":
            break
        rows = {row["name"]: row for row in json.loads(lvjobs("resume", "--json")[1])["runs"]}
    assert rows[name]["state"] == "completed", rows[name]
    assert rows[name]["stage"] == "evaluate"
    budget = json.loads(lvjobs("budget", "--json")[1])
    assert budget["generation"] == budget["by_stage"]["evaluate"] > 0
    code, out, err = lvjobs("evaluate", "one")
    assert code == 0, err
    assert "4 held-out series (last200): 80 steps of history, the next 20 are forecast" in out
    for word in ("eval-one", "persistence", "seasonal-naive", "var-8", "ode", "100 %", "exists already"):
        assert word in out
    code, _, err = lvjobs("evaluate", "one", "--split", "random")
    assert code == 2
    assert "trained or validated on" in err
