"""A run stays the one that it was when a release adds a key; and nobody changes what a fingerprint means by mistake."""

import hashlib
import json
from dataclasses import replace

import pytest
from control_scenes import Scene, make_haste

from lvjobs.control.submission.submission_files import write_submission
from lvjobs.study import run
from lvjobs.study.params import EVALUATE_TASK, TRAIN_TASK, EvaluationConfig, TrainingConfig
from lvjobs.study.program.command import CommandConfig, Snapshot, StepFlops
from lvjobs.study.run import RunConfig, read_params, said, silence
from lvjobs.study.settings import TrainSettings
from lvjobs.worker.submission import Submission

MEANT = {
    RunConfig: {
        "seed": 0,
        "checkpoint_every": 250,
        "validate_every": 250,
        "threads": 1,
        "keep_last": 2,
        "keep_best": True,
        "params": {},
        "parent": None,
    },
    TrainingConfig: {
        "model": "tiny",
        "data_sha256": "",
        "context_length": 512,
        "batch_size": 4,
        "accumulate": 1,
        "lora_rank": 4,
        "lora_alpha": None,
        "lora_dropout": 0.05,
        "lora_targets": "qv",
        "learning_rate": 1e-5,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "schedule": "cosine",
        "decay_steps": None,
        "max_grad_norm": 1.0,
        "compile": False,
        "early_stopping_patience": None,
        "early_stopping_delta": 0.0,
        "precision": "fp32",
        "quantization": "auto",
        "gradient_checkpointing": False,
        "decimals": 2,
        "scale_target": 6.0,
        "scale_alpha": 0.99,
        "scale_beta": 0.3,
        "scale_power": 1.0,
        "scaling": "series",
        "history_steps": 80,
        "horizon_steps": 20,
        "format": "raw",
        "packing": False,
        "head": "full",
        "data_systems": 0,
        "split": "last200",
        "split_seed": 0,
        "folds": 5,
        "fold": 0,
        "train_systems": None,
        "validation_systems": 0,
        "validation_limit": 32,
        "validation_forecasts": 0,
    },
    EvaluationConfig: {
        "adapter": "",
        "prompt": "raw",
        "split": "last200",
        "batch": 20,
        "temperature": 0.0,
        "top_p": 1.0,
        "samples": 1,
        "likelihood": False,
        "baselines": [],
    },
    CommandConfig: {
        "launch": "once",
        "resume": [],
        "resume_command": [],
        "checkpoint": "",
        "from_checkpoint": "",
        "complete": "",
        "progress": [],
        "validation": [],
        "metrics": [],
        "progress_file": "",
        "progress_key": "step",
        "first_step": 1,
        "first_checkpoint": 1,
        "out": "out",
        "directory": ".",
        "link": [],
        "container": None,
        "environment": {},
        "stop": "",
        "may_end_early": False,
        "retry_exit_codes": [],
        "flops": None,
        "snapshot": Snapshot(files=2000, total_mb=50.0, file_mb=10.0),
    },
    StepFlops: {"parameters": None, "tokens": None, "training": None, "validation": 0},
    Snapshot: {"files": 2000, "total_mb": 50.0, "file_mb": 10.0},
}
"""What a run means that does not say a key. Fingerprints in every ledger there is hang on these values."""

TRAINING = TrainingConfig(data="/d.h5", data_sha256="5ha", learning_rate=4e-3, validation_systems=0)
EVALUATION = EvaluationConfig(training=TRAINING, adapter="/a", systems=[800, 801])


def a_training(**own):
    return RunConfig(task=TRAIN_TASK, steps=500, params=TRAINING.model_dump(mode="json"), **own)


def an_evaluation(**own):
    return RunConfig(task=EVALUATE_TASK, steps=1, params=EVALUATION.model_dump(mode="json"), **own)


@pytest.mark.parametrize("model", MEANT, ids=lambda model: model.__name__)
def test_what_a_run_means_by_silence_never_changes(model):
    now = {key: (type(value), value) for key, value in silence(model).items()}
    frozen = {key: (type(value), value) for key, value in MEANT[model].items()}
    changed = sorted(key for key in now.keys() | frozen.keys() if now.get(key) != frozen.get(key))
    assert not changed, (
        f"{model.__name__}: {', '.join(changed)}: a run that does not say such a key would now mean something else by "
        "that, and keep its fingerprint. Of a new default, keep the old one in MEANT of lvjobs/study/run.py: the "
        "new one is then said, and has a fingerprint of its own. A new key belongs into the table of this test, with "
        "what runs did before there was the key; where its default is something else, say that in study.run.MEANT, too. "
        "A key that is gone belongs into neither: only runs that said it lose their fingerprint."
    )


def test_fingerprints_are_what_they_were():
    found = [a_training().fingerprint, a_training(seed=1).fingerprint, an_evaluation().fingerprint]
    assert [each[:16] for each in found] == ["5c909572af90b8ce", "7f5538e37ec33516", "22f923c3f63e6f35"]


def test_it_is_the_hash_of_what_is_said():
    told = {"task": TRAIN_TASK, "steps": 500, "params": {"data": "/d.h5", "data_sha256": "5ha", "learning_rate": 4e-3}}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert a_training().fingerprint == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("config", [a_training(), an_evaluation()], ids=["training", "evaluation"])
def test_a_default_said_or_not_is_the_same_run(config):
    model = run.PARAMS[config.task]
    short = config.model_copy(update={"params": said(model, config.params)})
    assert len(short.params) < len(config.params)
    assert short.fingerprint == config.fingerprint
    assert read_params(model, short.params) == read_params(model, config.params)


@pytest.mark.parametrize("key", [*MEANT[TrainingConfig], "data"])
def test_any_other_value_is_another_run(key):
    params = TRAINING.model_dump(mode="json")
    other = params | {key: "something else"}
    assert a_training().model_copy(update={"params": other}).fingerprint != a_training().fingerprint
    evaluation = an_evaluation()
    inner = evaluation.model_copy(update={"params": evaluation.params | {"training": other}})
    assert inner.fingerprint != evaluation.fingerprint


@pytest.mark.parametrize("key", [*MEANT[EvaluationConfig], "systems"])
def test_any_other_value_is_another_evaluation(key):
    config = an_evaluation()
    other = config.model_copy(update={"params": config.params | {key: "something else"}})
    assert other.fingerprint != config.fingerprint


@pytest.mark.parametrize("own", [{"seed": 1}, {"threads": 2}, {"keep_best": False}, {"validate_every": 500}])
def test_any_other_run_is_another_run(own):
    assert a_training(**own).fingerprint != a_training().fingerprint


def test_equal_numbers_of_other_kinds_are_not_mistaken_for_a_default():
    config = a_training()
    other = config.model_copy(update={"params": config.params | {"compile": 0}})
    assert other.fingerprint != config.fingerprint


def test_a_task_of_ones_own_is_hashed_whole():
    one = RunConfig(task="my.task:train", steps=5, params={"model": "tiny"})
    assert one.fingerprint != one.model_copy(update={"params": {}}).fingerprint


class Newer(TrainingConfig):
    """The next release's, with a key that this one does not have, and another default."""

    lookahead: int = 3
    lora_rank: int = 16


class NewerEvaluation(EvaluationConfig):
    """With the same inside."""

    training: Newer


@pytest.fixture
def upgraded(monkeypatch):
    monkeypatch.setattr(run, "PARAMS", {TRAIN_TASK: Newer, EVALUATE_TASK: NewerEvaluation})
    monkeypatch.setattr(run, "MEANT", {Newer: {"validation_systems": 0, "lora_rank": 4}})


def typed_again(**changed):
    """The training of this release, typed after the upgrade."""
    asked = {"data": "/d.h5", "data_sha256": "5ha", "learning_rate": 4e-3, "validation_systems": 0} | changed
    return RunConfig(task=TRAIN_TASK, steps=500, params=Newer(**asked).model_dump(mode="json"))


def test_a_new_key_leaves_runs_and_evaluations_who_they_are(upgraded):
    assert typed_again(lora_rank=4).fingerprint == a_training().fingerprint
    assert typed_again(lora_rank=4, lookahead=4).fingerprint != a_training().fingerprint
    training = Newer(**TRAINING.model_dump() | {"lora_rank": 4})
    again = NewerEvaluation(training=training, adapter="/a", systems=[800, 801])
    config = RunConfig(task=EVALUATE_TASK, steps=1, params=again.model_dump(mode="json"))
    assert config.fingerprint == an_evaluation().fingerprint


def test_a_new_default_makes_a_new_run_and_the_old_one_still_means_the_old(upgraded):
    assert typed_again().fingerprint != a_training().fingerprint
    short = said(TrainingConfig, TRAINING.model_dump(mode="json"))
    assert read_params(Newer, short).lora_rank == 4
    inner = {"training": short, "systems": [1]}
    assert read_params(NewerEvaluation, inner).training.lora_rank == 4


def test_a_ledger_from_when_everything_was_hashed_knows_its_runs(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = Scene(tmp_path)
    scene.enter("one")
    (row,) = scene.rows("runs")
    stored = RunConfig.model_validate(json.loads(row["config"]))
    assert stored.former_fingerprint != stored.fingerprint == row["fingerprint"]
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction._connection.exec_driver_sql("UPDATE runs SET fingerprint = ?", (stored.former_fingerprint,))
    assert scene.enter("one") is None
    scene.go(120)
    assert scene.state("one") == "completed"
    assert len(scene.jobs("one")) == 1


def test_a_job_is_told_no_key_that_its_code_does_not_know(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = Scene(tmp_path)
    scene.enter("one")
    with scene.session() as session, session.ledger.transaction() as transaction:
        (run,) = transaction.runs()
        older = replace(run, config={key: value for key, value in run.config.items() if key != "keep_best"})
    write_submission(scene.study, "t0", [older], {})
    Submission(scene.files(), "t0").read_run()
    told = json.loads(scene.study.layout.run("one").config.read_text())["config"]
    assert told == older.config


def test_minus_zero_is_zero():
    runs = [TrainSettings(scale_power=power).run_config() for power in (0, -0.0, "-0")]
    assert {run.identity for run in runs} == {runs[0].identity}
    assert {run.fingerprint for run in runs} == {runs[0].fingerprint}
