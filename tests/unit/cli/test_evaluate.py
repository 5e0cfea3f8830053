"""`lvjobs evaluate`: what it refuses, in one line; and an evaluation from the command line to its table."""

import json
import re
import sys

import h5py
import pytest
from extra_helpers import make_bolt, make_chronos_2

from lvjobs import Study
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
        (["--zero-shot", "raw", "--origin", "81"], ["origin 81", "the data have 100 steps", "from 21 to 80"]),
        (["--zero-shot", "raw", "--baseline", "ode"], ["baseline ode", "already", "auto-arima"]),
        (["--zero-shot", "raw", "--baseline", "auto-x"], ["no extra baseline 'auto-x'", "chronos:MODEL"]),
        (["--zero-shot", "raw", "--baseline", "chronos:lab/bolt"], ["lab/bolt", "lvjobs model pull lab/bolt"]),
        (["--zero-shot", "raw", "--baseline", "", "--baseline", "auto-ets"], ['--baseline "" means no extra']),
        (["--zero-shot", "raw", "--origin", "40", "--origin", "20"], ["origin 20", "every baseline", "from 21 to 80"]),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(tmp_path, lvjobs, arguments, words):
    code, out, err = lvjobs("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "checkpoints").exists()


def test_data_without_logarithms_are_refused_where_a_study_asks_for_them(tmp_path, lvjobs):
    asked = ["evaluate", "--zero-shot", "raw", "--set", "scale_power=0", "--dry-run"]
    assert lvjobs(*asked)[0] == 0
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        file["/trajectories"][3, 4, 0] = 0
    code, out, err = lvjobs(*asked)
    assert (code, out) == (2, "")
    assert "scale_power = 0 needs values above 0, and series 3, step 4, variable 0 is 0" in err


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


def planned(lvjobs, *arguments):
    """The runs and FLOPs of a dry run of these evaluations."""
    code, out, err = lvjobs("evaluate", "--zero-shot", "raw", "--series", "2", *arguments, "--dry-run", "--json")
    assert code == 0, err
    (stage,) = json.loads(out)["estimate"]["stages"]
    return stage["runs"], stage["evaluation"]["official"]


def test_each_origin_is_an_evaluation_and_one_given_twice_is_one(lvjobs):
    own = planned(lvjobs)
    assert planned(lvjobs, "--origin", "80") == planned(lvjobs, "--origin", "80", "--origin", "80") == own
    both = planned(lvjobs, "--origin", "40", "--origin", "80", "--origin", "40")
    assert (own[0], both[0]) == (1, 2)
    assert own[1] < both[1] < 2 * own[1], "40 steps of history are a shorter prompt"
    code, _, err = lvjobs("evaluate", "--zero-shot", "raw", "--origin", "0")
    assert (code, "--origin" in err) == (2, True)


def test_extra_baselines_cost_no_flops_and_their_order_makes_no_other_evaluation(tmp_path, lvjobs):
    own = planned(lvjobs)
    for names in (["auto-ets", "auto-theta"], ["auto-theta", "auto-ets", "auto-theta"]):
        assert planned(lvjobs, *(word for name in names for word in ("--baseline", name))) == own
    asked = ["evaluate", "--zero-shot", "raw", "--series", "2", "--dry-run"]
    typed = lvjobs(*asked, "--baseline", "auto-theta", "--baseline", "auto-ets")[1].splitlines()[1]
    none = lvjobs(*asked)[1].splitlines()[1]
    with (tmp_path / "study.toml").open("a") as file:
        file.write('[evaluation]\nbaselines = ["auto-ets", "auto-theta"]\n')
    assert lvjobs(*asked, "--baseline", "")[1].splitlines()[1] == none != typed
    assert lvjobs(*asked)[1].splitlines()[1] == typed, "[evaluation] is the default"
    assert lvjobs(*asked, "--baseline", "auto-ets")[1].splitlines()[1] != typed


def test_a_package_that_is_not_installed_is_said_before_anything_is_made(tmp_path, lvjobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    code, out, err = lvjobs("evaluate", "--zero-shot", "raw", "--baseline", "auto-arima")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "baseline auto-arima takes the package statsforecast, which is not installed" in err
    assert "pip install 'lvjobs[statsforecast]'" in err
    stage = '[evaluation]\nbaselines = "auto-arima"\n[[stage]]\nname = "scores"\nzero_shot = ["raw"]\n'
    (tmp_path / "study.toml").write_text(stage)
    assert "takes the package statsforecast" in lvjobs("sweep", "all")[2]
    assert "takes the package statsforecast" in lvjobs("submit", "train", "--evaluate")[2]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.heavy
def test_extra_baselines_from_study_toml_to_every_table(tmp_path, lvjobs):
    """By the stages' evaluations and by one that is typed; a directory by its name in the study is the same model."""
    make_bolt(tmp_path / "bolt")
    make_chronos_2(tmp_path / "two")
    (tmp_path / "study.toml").write_text(
        "[train]\nsteps = 2\ncontext_length = 48\nbatch_size = 1\nvalidation_limit = 1\n"
        '[evaluation]\nseries = 2\nbaselines = ["chronos:two", "auto-theta", "chronos:bolt"]\n'
        '[[stage]]\nname = "one"\n[[stage]]\nname = "scores"\nevaluate = ["one"]\nzero_shot = ["raw"]\n'
    )
    plan = json.loads(lvjobs("sweep", "plan", "--json")[1])
    code, _, err = lvjobs("sweep", "all", "--wait")
    assert code == 0, err
    spent = json.loads(lvjobs("budget", "--json")[1])
    assert spent["generation"] == plan["total"]["evaluation"]["official"] > 0, "baselines cost no FLOPs"
    names = {"auto-theta", f"chronos:{tmp_path.resolve()}/bolt", f"chronos:{tmp_path.resolve()}/two"}
    tables = json.loads(lvjobs("evaluate", "--table", "--json")[1])["tables"]
    for table in tables:
        if table["title"] != "Paired comparisons":
            assert names <= {row["name"] for row in table["rows"]}, table["title"]
    assert "auto-theta" in lvjobs("evaluate", "--zero-shot", "raw", "--series", "2")[1]
    outcome = json.loads(lvjobs("evaluate", "--zero-shot", "raw", "--series", "2", "--json")[1])["outcome"]
    assert outcome == "exists", "it is the stage's own"
    code, out, err = lvjobs("forecast", "--zero-shot", "raw", "--series", "17", "--json")
    assert (code, names <= json.loads(out)["errors"].keys()) == (0, True), err
    (run,) = [row["name"] for row in json.loads(lvjobs("status", "--json")[1])["runs"] if row["stage"] == "one"]
    study = Study.open(tmp_path)
    made = study.evaluate(run, baselines="auto-ets", series=2)
    assert made.outcome == "submitted"
    code, _, err = lvjobs("evaluate", run, "--series", "2", "--baseline", "auto-ets", "--wait")
    assert code == 0, err
    (table, *_) = json.loads(lvjobs("evaluate", "--table", "--json")[1])["tables"]
    assert {*names, "auto-ets"} <= {row["name"] for row in table["rows"]}, "of two evaluations"
    code, _, err = lvjobs("report")
    assert code == 0, err
    page = (tmp_path / "report/index.html").read_text()
    assert all(name in page for name in ("auto-ets", "auto-theta", "/bolt"))


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        ("[81]", ["origin 81", "from 21 to 80"]),
        ("[0]", ["evaluation.origins", "0 is no forecast origin"]),
        ('["x"]', ["evaluation.origins"]),
    ],
)
def test_a_sweep_refuses_origins_without_room_before_anything_is_asked_for(tmp_path, lvjobs, origins, words):
    stage = f'[evaluation]\norigins = {origins}\n[[stage]]\nname = "scores"\nzero_shot = ["raw"]\n'
    (tmp_path / "study.toml").write_text(stage)
    code, out, err = lvjobs("sweep", "all")
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_evaluations_from_every_origin_spend_what_was_planned(tmp_path, lvjobs):
    """From study.toml to the table of origins: the model is trained on 80 steps of history, and forecasts from 40."""
    (tmp_path / "study.toml").write_text(
        "[train]\nsteps = 2\ncontext_length = 48\nbatch_size = 1\nvalidation_limit = 1\n"
        "[evaluation]\nseries = 2\norigins = [80, 40]\n"
        '[[stage]]\nname = "one"\n[[stage]]\nname = "scores"\nevaluate = ["one"]\nzero_shot = ["raw"]\n'
    )
    plan = json.loads(lvjobs("sweep", "plan", "--json")[1])
    assert plan["total"]["series"] == 2 * 2, "of the trained run; each evaluation of the base model is a run"
    code, _, err = lvjobs("sweep", "all", "--wait")
    assert code == 0, err
    spent = json.loads(lvjobs("budget", "--json")[1])
    assert spent["generation"] == plan["total"]["evaluation"]["official"] > 0
    rows = {row["name"]: row for row in json.loads(lvjobs("status", "--json")[1])["runs"]}
    assert {row["state"] for row in rows.values()} == {"completed"}
    assert sum("-origin-40-" in name for name in rows) == 2
    tables = json.loads(lvjobs("evaluate", "--table", "--json")[1])["tables"]
    (of_origins,) = [table for table in tables if table["title"] == "Errors by forecast origin"]
    name = next(name for name in rows if name.startswith("one-"))
    assert [row["name"] for row in of_origins["rows"][:2]] == [name, "zero-shot raw"]
    assert {"mae_40", "mae_80", "mae_mean"} <= set(of_origins["rows"][0])
    (third,) = [table for table in tables if table["title"].startswith("Table 3")]
    assert "80 steps of history" in third["circumstances"]


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
    for word in ("eval-one", "persistence", "seasonal-naive", "var-8", "ode", "100 %", "already exists"):
        assert word in out
    code, _, err = lvjobs("evaluate", "one", "--split", "random")
    assert code == 2
    assert "trained or validated on" in err
    for command in ("evaluate", "one"), ("forecast", "one", "--series", "16"):
        code, out, err = lvjobs(*command, "--set", "split=random")
        assert (code, out) == (2, "")
        assert "split: one forecasts with the settings that it was trained with" in err
