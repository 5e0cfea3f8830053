"""`lvjobs plan` and `--dry-run` beside what a submission refuses: models, splits, origins, metrics."""

import pytest

from lvjobs.forecasting.data import make_dataset

TRAIN = "[train]\nsteps = 4\ncontext_length = 48\nbatch_size = 1\ncheckpoint_every = 2\n"
SCORES = '[[stage]]\nname = "scores"\nzero_shot = ["raw"]\n'
BY_MAE = 'select = { metric = "validation_mae" }\n'
FROM = f'[[stage]]\nname = "later"\nfrom = "one"\n{BY_MAE}'


@pytest.fixture
def planned(tmp_path, monkeypatch, typed):
    """Write a study.toml beside data of 20 systems, and type a command of `sweep`; return code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "data.h5", systems=20, seed=0)

    def planned(text, *arguments):
        (tmp_path / "study.toml").write_text(text)
        return typed("sweep", *arguments)

    return planned


def test_an_absent_model_of_a_baseline_is_noted_by_the_plan_and_refused_by_a_dry_run(planned):
    text = f'{TRAIN}[evaluation]\nbaselines = ["chronos:lab/bolt"]\n{SCORES}'
    code, out, err = planned(text, "plan")
    assert (code, "scores" in out, err.count("\n")) == (0, True, 1)
    assert err.startswith("note: submitting now would fail: model 'lab/bolt'")
    assert "lvjobs model pull lab/bolt" in err
    refused = planned(text, "all", "--dry-run")
    assert refused == planned(text, "all")
    assert (refused[0], refused[1]) == (2, "")
    assert "lvjobs model pull lab/bolt" in refused[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TRAIN + 'split = "k-fold"\nfolds = 50\n[[stage]]\nname = "one"\n', "set folds to 20 at most"),
        (
            TRAIN + '[[stage]]\nname = "one"\nset = { split = "k-fold", folds = 50 }\n'
            '[[stage]]\nname = "two"\nset = { split = "k-fold" }\n',
            "set folds to 20 at most",
        ),
        (TRAIN + "train_systems = 30\n" + SCORES, "train_systems = 30"),
        (TRAIN + "[evaluation]\norigins = [81]\n" + SCORES, "forecast origin 81"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "all"])
def test_splits_and_origins_are_checked_if_the_data_are_there(tmp_path, planned, text, words, command):
    code, out, err = planned(text, command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "data.h5").unlink()
    assert planned(text, "plan")[0] == 0


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f'[[stage]]\nname = "one"\n{BY_MAE}', []),
        (f'[[stage]]\nname = "one"\n{FROM}', []),
        (f'validation_forecasts = 4\n[[stage]]\nname = "one"\nset = {{ validation_forecasts = 0 }}\n{FROM}', []),
        (f'[[stage]]\nname = "one"\nset = {{ validation_forecasts = 4 }}\n{FROM}take = ["lora_rank"]\n', []),
        (f'validation_forecasts = 4\n[[stage]]\nname = "one"\n{FROM}', ["--set", "validation_forecasts=0"]),
        ('[[stage]]\nname = "one"\nselect = { metric = "mae" }\n', []),
    ],
)
@pytest.mark.parametrize("command", ["plan", "all"])
def test_a_stage_by_forecasts_that_its_runs_do_not_make_is_refused(planned, text, options, command):
    code, out, err = planned(TRAIN + text, command, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "its runs would have none: set validation_forecasts = 16 in [train]" in err


@pytest.mark.parametrize("first", ["", "set = { validation_forecasts = 4 }\n"])
def test_a_stage_by_forecasts_that_its_runs_make_is_planned(planned, first):
    train = TRAIN if first else f"{TRAIN}validation_forecasts = 4\n"
    code, _, err = planned(f'{train}[[stage]]\nname = "one"\n{first}{FROM}', "plan")
    assert code == 0, err


def test_data_that_come_from_a_winner_are_not_checked_by_the_plan(tmp_path, planned):
    make_dataset(tmp_path / "more.h5", systems=40, seed=0)
    first = '[[stage]]\nname = "one"\nset = { data = "more.h5" }\n'
    code, _, err = planned(
        f'{TRAIN}{first}[[stage]]\nname = "two"\nfrom = "one"\nset = {{ train_systems = 25 }}\n', "plan"
    )
    assert code == 0, err
