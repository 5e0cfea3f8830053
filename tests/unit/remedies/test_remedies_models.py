"""Scenarios of remedies for models, packages, and what evaluations show."""

import json
import sys

import numpy as np
import pytest
from fake_hub import make_model, put_in_cache, serve
from remedy_scenes import typed_scene

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.hub import find_model
from lvjobs.forecasting.results import Forecasts, examine, write_forecasts
from lvjobs.study.params import EvaluationConfig
from lvjobs.study.run import RunFile

TOML = """\
profile = "lab"

[train]
steps = 12
checkpoint_every = 4
history_steps = 60
horizon_steps = 5

[driver]
job = false

[[stage]]
name = "grid"
grid = { lora_rank = [2, 4] }

[[stage]]
name = "scores"
evaluate = ["grid"]
"""

pytestmark = pytest.mark.heavy


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data.h5", systems=20, seed=1)
    return typed_scene(tmp_path, monkeypatch, TOML)


# -- models ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on loopback with one model, and a cache in which there is none."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    with serve({"lab/small": make_model(tmp_path / "model")}) as (url, _):
        monkeypatch.setattr(f"{constants}.ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield tmp_path / "hub"


@pytest.mark.remedy("MODEL_PULL")
@pytest.mark.parametrize("is_begun", [False, True])
def test_a_model_that_is_not_in_the_cache(scene, typed, take, hub, is_begun):
    if is_begun:  # a download that was interrupted
        (put_in_cache(hub, "lab/small", scene.root / "model") / "model.safetensors").unlink()
    code, _, err = typed("submit", "train", "--model", "lab/small")
    assert (code, scene.rows("runs")) == (2, [])
    code, _, err = take(remedies.MODEL_PULL, err, model="lab/small")
    assert code == 0, err
    code, _, err = typed("submit", "train", "--model", "lab/small")
    assert code == 0, err


@pytest.mark.remedy("MODEL_PULL")
def test_a_model_whose_cost_is_not_known(scene, typed, take, hub):
    code, _, err = typed("estimate", "train", "--model", "lab/small")
    assert code == 2
    assert take(remedies.MODEL_PULL, err, model="HUB-ID", choose={"HUB-ID": "lab/small"})[0] == 0
    assert typed("estimate", "train", "--model", "lab/small")[0] == 0


@pytest.mark.parametrize("model", ["/nowhere/small", "./small", "a/b/c"])
def test_a_directory_that_is_not_there_is_not_to_be_pulled(scene, typed, model):
    code, _, err = typed("model", "check", model)
    assert code == 2
    assert "model pull" not in err
    assert "name a directory, or a model of the hub" in err


@pytest.mark.remedy("MODEL_CHECK")
def test_a_model_that_is_not_to_be_pulled(scene, typed, take):
    for model in ("tiny", str(make_model(scene.root / "model"))):
        code, _, err = typed("model", "pull", model)
        assert code == 2
        code, out, err = take(remedies.MODEL_CHECK, err, model=model)
        assert code == 0, err
        assert f"{model}: complete" in out


@pytest.mark.remedy("MODEL_CHECK")
def test_a_directory_that_cannot_be_loaded(tmp_path, typed, take):
    """As a job says it, when a file was broken since its submission."""
    from lvjobs.forecasting.models import load_tokenizer

    model = make_model(tmp_path / "model")
    before = (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(LvjobsError) as caught:
        load_tokenizer(str(model))
    code, _, err = take(remedies.MODEL_CHECK, str(caught.value), model=model)
    assert (code, "tokenizer.json cannot be read as a tokenizer" in err) == (2, True)
    (model / "tokenizer.json").write_bytes(before)
    assert load_tokenizer(str(model)).encode("1", add_special_tokens=False)
    assert find_model(str(model)).split == ()


# -- packages -------------------------------------------------------------------------------------------------------


@pytest.mark.remedy("INSTALL_EXTRA")
def test_a_package_that_is_not_installed(scene, typed, take, monkeypatch):
    (scene.root / "model.gguf").write_bytes(b"GGUF")
    commands = {
        "tensorboard": ("tensorboard.compat.proto.event_pb2", ("export", "out", "--to", "tensorboard")),
        "gguf": ("gguf", ("model", "convert", "model.gguf", "converted")),
    }
    zero_shot = ("evaluate", "--zero-shot", "raw", "--dry-run", "--baseline")
    commands["statsforecast"] = ("statsforecast", (*zero_shot, "auto-theta"))
    commands["chronos"] = ("chronos", (*zero_shot, "chronos:tiny"))
    scene.enter("one")
    scene.go(300)
    for extra, (module, command) in commands.items():
        with monkeypatch.context() as absent:
            absent.setitem(sys.modules, module, None)
            code, _, err = typed(*command)
        assert code == 2
        code, out, said = take(remedies.INSTALL_EXTRA, err, python=sys.executable, package=f"lvjobs[{extra}]")
        assert code == 0, said
        assert f"Requirement already satisfied: {extra}" in out, "by the interpreter that lvjobs runs with"
        assert "does not provide the extra" not in out + said
    code, _, err = typed(*commands["tensorboard"][1])
    assert code == 0, err
    code, _, err = typed(*commands["gguf"][1])
    assert (code, "holds no model that transformers can read" in err) == (2, True)


# -- evaluations ----------------------------------------------------------------------------------------------------


@pytest.mark.remedy("EVALUATE")
def test_runs_that_were_not_evaluated(scene, typed, take):
    trained(scene, typed, "one", "two")
    code, _, err = typed("evaluate", "--table", "one", "two")
    assert code == 2
    code, _, err = take(remedies.EVALUATE, err, runs=["one", "two"])
    assert code == 0, err
    scored(scene)
    code, table, _ = typed("evaluate", "--table", "one", "two")
    assert (code, "one" in table, "two" in table) == (0, True, True)


@pytest.mark.remedy("EVALUATE", "SCORES")
def test_a_run_is_evaluated_once_and_then_its_scores_are_shown(scene, typed, take):
    trained(scene, typed, "one")
    code, _, err = take(remedies.EVALUATE, typed("why", "one")[1], runs="one")
    assert code == 0, err
    assert "lvjobs evaluate" not in typed("why", "one")[1], "it is to come"
    scored(scene)
    code, table, _ = take(remedies.SCORES, typed("why", "one")[1], run="one")
    assert (code, "one" in table) == (0, True)
    before = len(scene.rows("runs"))
    code, _, err = typed("evaluate", "one", "--series", "2")
    assert code == 0
    assert "would repeat the forecasts of" in err
    assert len(scene.rows("runs")) == before, "the evaluation of all series has these"
    assert typed("evaluate", "one", "--series", "2", "--again")[0] == 0
    assert len(scene.rows("runs")) == before + 1
    typed("evaluate", "one", "--likelihood")
    assert len(scene.rows("runs")) == before + 2, "no evaluation has the likelihood"


def test_an_evaluation_of_more_series_says_which_of_them_it_repeats(scene, typed):
    trained(scene, typed, "one")
    typed("evaluate", "one", "--series", "2")
    (first,) = (run["name"] for run in scene.rows("runs") if run["stage"] == "evaluate")
    code, _, err = typed("evaluate", "one")
    assert (code, f"forecasts 4 series, of which {first} already has 2" in err) == (0, True), err


@pytest.mark.remedy("EVALUATE")
@pytest.mark.parametrize("command", ["evaluate --table", "report", "figures"])
def test_a_study_in_which_nothing_was_evaluated(scene, typed, take, command):
    trained(scene, typed, "one")
    code, out, err = typed(*command.split())
    assert take(remedies.EVALUATE, out + err, runs="RUN", choose={"RUN": "one"})[0] == 0
    scored(scene)
    code, out, err = typed(*command.split())
    assert (code, "evaluated yet" in out + err) == (0, False)


@pytest.mark.remedy("EVALUATE_ZERO_SHOT")
@pytest.mark.parametrize(
    ("settings", "how", "words"),
    [
        ((), (), "raw --series 4"),
        (("--set", "decimals=3"), ("--series", "2"), "raw --set decimals=3 --series 2"),
        (("--set", "scale_power=0.5"), (), "raw --set scale_power=0.5 --series 4"),
        ((), ("--samples", "3", "--seed", "1"), "raw --series 4 --samples 3 --temperature 1 --seed 1"),
    ],
)
def test_a_base_model_that_was_not_evaluated_in_the_same_way(scene, typed, take, settings, how, words):
    trained(scene, typed, "one", *settings)
    code, _, err = typed("evaluate", "one", *how)
    assert code == 0, err
    scored(scene)
    _, shown, _ = typed("report")
    code, _, err = take(remedies.EVALUATE_ZERO_SHOT, shown, prompt=words.split())
    assert code == 0, err
    scored(scene)
    _, shown, _ = typed("report")
    assert "Not answered yet" not in shown
    assert "zero-shot" in shown


@pytest.mark.remedy("EVALUATE_SAMPLES")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("one --series 3", "one --series 3"),
        ("--zero-shot raw", "--zero-shot raw --series 4"),
        ("--zero-shot raw --set decimals=3", "--zero-shot raw --set decimals=3 --series 4"),
        ("--zero-shot raw --split random --seed 3", "--zero-shot raw --series 4 --split random --seed 3"),
    ],
)
def test_a_forecast_without_bands(scene, typed, take, how, words):
    trained(scene, typed, "one")
    assert typed("evaluate", *how.split())[0] == 0
    scored(scene)
    page = scene.root / "report" / "index.html"
    typed("report")
    shown = page.read_text()
    assert "of the samples" not in shown.partition("<script")[0] + shown.rpartition("</script>")[2]
    code, _, err = take(remedies.EVALUATE_SAMPLES, shown, run=words.split())
    assert code == 0, err
    scored(scene)
    typed("report")
    assert "90 % of the samples" in page.read_text()
    assert remedies.EVALUATE_SAMPLES.seen[0] not in page.read_text()


@pytest.mark.remedy("EVALUATIONS")
def test_a_stage_of_evaluations_that_has_no_winner(scene, typed, take):
    assert typed("sweep", "grid")[0] == 0
    scene.go(600)
    assert typed("sweep", "scores")[0] == 0
    scored(scene)
    path = scene.root / "study.toml"
    path.write_text(path.read_text().partition('[[stage]]\nname = "scores"')[0])
    code, _, err = typed("sweep", "show", "scores")
    assert code == 2, "study.toml no longer says that it evaluates"
    code, table, _ = take(remedies.EVALUATIONS, err)
    assert code == 0
    assert all(run["name"] in table for run in scene.rows("runs") if run["stage"] == "grid")


@pytest.mark.remedy("EVALUATIONS")
def test_runs_that_cannot_be_compared_by_their_loss(scene, typed, take):
    path = scene.root / "study.toml"
    toml = path.read_text()
    path.write_text(toml.replace("lora_rank = [2, 4]", "decimals = [2, 3]"))
    _, _, err = typed("sweep", "grid")
    path.write_text(
        toml.replace("grid = { lora_rank = [2, 4] }", "set = { decimals = 2 }")
        .replace("[[stage]]", '[[stage]]\nname = "other"\nset = { decimals = 3 }\n\n[[stage]]', 1)
        .replace('["grid"]', '["grid", "other"]')
    )
    for stage in ("grid", "other"):
        assert typed("sweep", stage)[0] == 0
    scene.go(600)
    assert typed("sweep", "scores")[0] == 0
    scored(scene)
    code, table, _ = take(remedies.EVALUATIONS, err)
    assert code == 0
    assert all(run["name"] in table for run in scene.rows("runs") if run["stage"] in ("grid", "other"))


def test_settings_of_training_are_refused_for_a_trained_run(scene, typed):
    trained(scene, typed, "one")
    before = len(scene.rows("runs"))
    for command in (["evaluate", "one"], ["forecast", "one", "--series", "16"]):
        code, out, err = typed(*command, "--set", "steps=3")
        assert (code, out, "leave steps out" in err) == (2, "", True)
    assert len(scene.rows("runs")) == before


# -- helpers --------------------------------------------------------------------------------------------------------


def trained(scene, typed, *words):
    """Runs of these names, trained; after the names, what they are submitted with."""
    names = [word for word in words if word.isalpha()]
    for number, name in enumerate(names):
        code, _, err = typed("submit", "train", "--name", name, "--seed", number, *words[len(names) :])
        assert code == 0, err
    scene.go(300)
    assert {scene.state(name) for name in names} == {"completed"}


def scored(scene):
    """Let evaluations end, and leave what a job leaves: forecasts that are the truth and some noise, and their scores."""
    scene.go(300)
    for run in scene.rows("runs"):
        files = scene.files(run["name"])
        config = RunFile.model_validate_json(files.config.read_text()).config
        result = files.final / "result"
        if "evaluate:evaluate" not in config.task or result.exists():
            continue
        assert run["state"] == "completed"
        asked = EvaluationConfig(**config.params)
        history, horizon = asked.training.history_steps, asked.training.horizon_steps
        loaded = load_dataset(scene.root / "data.h5", steps=history + horizon)
        truth = loaded.trajectories[asked.systems, history : history + horizon].astype(np.float64)
        noise = np.random.default_rng(0).standard_normal((asked.samples, *truth.shape))
        made = Forecasts(truth[None] + (0.1 if asked.adapter else 1.0) * noise, list(asked.systems))
        result.mkdir(parents=True)
        write_forecasts(result / "forecasts.h5", made)
        (result / "scores.json").write_text(json.dumps(examine(asked, loaded, made, config.seed)))


def test_options_of_an_evaluation_that_is_under_way_are_refused(scene, typed):
    trained(scene, typed, "one")
    assert typed("evaluate", "one", "--series", "3")[0] == 0
    code, _, err = typed("evaluate", "one", "--series", "3", "--cpus", "2")
    assert (code, "cpus = 2 would have no effect" in err) == (2, True), err
    assert typed("evaluate", "one", "--series", "2", "--cpus", "2")[0] == 2, "it stands for fewer series too"
