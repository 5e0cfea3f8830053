"""The command line: bad input gets one clear line, exit code 2, and leaves nothing half-made."""

import json
import os

import h5py
import numpy as np
import pytest

from lvjobs.forecasting.data import make_dataset


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=10, seed=0)
    return path


@pytest.fixture
def lvjobs(typed):
    """Types a command; returns its exit code, output and errors."""
    return typed


def written(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def good(systems=10):
    rng = np.random.default_rng(0)
    return {"time": np.linspace(0, 200, 100), "trajectories": rng.uniform(0.1, 5, (systems, 100, 2)).astype("f4")}


def with_nan():
    values = good()
    values["trajectories"][3, 5, 1] = np.nan
    return values


BAD_DATA = {
    "missing": (lambda path: path, "data.h5"),
    "not HDF5": (lambda path: path.write_text("time,prey\n") and path, "HDF5"),
    "no trajectories": (lambda path: written(path, time=good()["time"]), "/trajectories"),
    "wrong shape": (lambda path: written(path, **{**good(), "trajectories": np.zeros((10, 100))}), "shape"),
    "NaN": (lambda path: written(path, **with_nan()), "NaN or infinity"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data(kind, study, lvjobs):
    make, word = BAD_DATA[kind]
    make(study / "data.h5")
    code, out, err = lvjobs("submit", "train")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "data.h5" in err
    assert word.lower() in err.lower()
    assert not (study / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "nowhere"], ["nowhere", "csd3-ampere", "generic", "lab", "local"]),
        (["--steps", "-5"], ["steps", "-5", "greater than 0"]),
        (["--steps", "ten"], ["steps", "ten", "not a number"]),
        (["--steps", "1.5"], ["steps", "1.5", "not a whole number"]),
        (["--learning-rate", "0"], ["learning_rate"]),
        (["--set", "lora_dropuot=0.1"], ["lora_dropuot", "did you mean 'lora_dropout'"]),
        (["--set", "lora_dropout"], ["KEY=VALUE"]),
        (["--time-limit", "soon"], ["time_limit", "soon", "12:00:00"]),
        (["--partition", "gpu"], ["partition", "profile local"]),
        (["--name", "a/b"], ["a/b", "name"]),
        (["--model", "gpt-17"], ["gpt-17", "tiny"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_options(arguments, words, study, series, lvjobs):
    code, out, err = lvjobs("submit", "train", "--data", series, *arguments)
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (study / "checkpoints").exists()
    code, out, _ = lvjobs("status", "--json")
    assert code == 2 or json.loads(out)["runs"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nlearning_rat = 1\n", ["study.toml", "train.learning_rat", "did you mean 'learning_rate'"]),
        ("[trian]\n", ["study.toml", "trian", "did you mean 'train'"]),
        ("[[stage]]\nname = 'a'\ngird = {}\n", ["stage a: gird", "did you mean 'grid'"]),
        ("profile = \n", ["study.toml", "not valid TOML"]),
        ("[budget]\nlimit = 0\n", ["budget.limit", "greater than 0"]),
    ],
)
def test_a_typo_in_study_toml(text, words, study, lvjobs):
    (study / "study.toml").write_text(text)
    code, _, err = lvjobs("status")
    assert code == 2
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_numbers_as_people_write_them(study, series, lvjobs):
    (study / "study.toml").write_text('[train]\nlearning_rate = "1e-5"\nsteps = 1e3\n[budget]\nlimit = "1e17"\n')
    code, out, err = lvjobs("submit", "train", "--data", series, "--dry-run", "--lora-alpha", "8e0")
    assert code == 0, err
    assert "python" in out
    assert "-m lvjobs.worker" in out
    code, out, _ = lvjobs("budget", "--json")
    assert json.loads(out)["limit"] == 10**17


def test_a_dry_run_submits_nothing(study, series, lvjobs):
    code, out, _ = lvjobs(
        "submit", "train", "--data", series, "--profile", "csd3-ampere", "--account", "X-GPU", "--dry-run"
    )
    assert code == 0
    assert "#SBATCH --partition=ampere" in out
    assert "#SBATCH --account=X-GPU" in out
    assert not (study / "checkpoints").exists()
    assert json.loads(lvjobs("status", "--json")[1])["runs"] == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere; the error path is tested below")
def test_a_directory_that_cannot_be_written(study, series, lvjobs):
    study.chmod(0o500)
    code, _, err = lvjobs("submit", "train", "--data", series)
    study.chmod(0o700)
    assert code == 2
    assert "cannot be written" in err


def test_a_study_directory_that_is_in_the_way(study, series, lvjobs):
    (study / ".lvjobs").write_text("a file where a directory is wanted")
    code, _, err = lvjobs("submit", "train", "--data", series)
    assert code == 2
    assert "cannot be written" in err
    assert err.count("\n") == 1


def test_commands_where_there_is_no_study(study, lvjobs):
    for command in (["status"], ["budget"], ["resume"], ["cancel", "x"], ["logs", "x"]):
        code, _, err = lvjobs(*command)
        assert code == 2, command
        assert "lvjobs init" in err
    assert list(study.iterdir()) == []


def test_init_writes_a_study_that_says_what_the_defaults_are(study, lvjobs):
    code, _, _ = lvjobs("init", "--profile", "csd3-ampere", "--account", "ME-SL3-GPU")
    assert code == 0
    text = (study / "study.toml").read_text()
    assert 'account = "ME-SL3-GPU"' in text
    assert '# partition = "ampere"' in text
    code, _, err = lvjobs("init")
    assert code == 2
    assert "--force" in err
    assert lvjobs("status")[0] == 0


def test_cancel_and_resume_of_runs_that_are_not(study, lvjobs):
    lvjobs("init")
    for command in ("cancel", "resume", "logs"):
        code, _, err = lvjobs(command, "nobody")
        assert code == 2, command
        assert "nobody" in err
