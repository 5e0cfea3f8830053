"""[train] command: what is refused before anything is submitted, each in one line, and what placeholders become."""

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.config import study_model, validated
from lvjobs.study.program.placeholders import arguments, fill, names_in
from lvjobs.study.program.presets import PRESETS
from lvjobs.study.run import with_values
from lvjobs.study.settings import ProgramSettings, settings_model
from lvjobs.sweep.request import settings_of

GOOD = {
    "command": ["python", "train.py", "--out={out}", "--lr={lr}"],
    "resume": ["--resume={checkpoint}"],
    "checkpoint": "{out}/step-{step}.pt",
    "progress": [r"^step (?P<step>\d+)"],
    "flops": 6e9,
    "lr": 1e-3,
}


def settings(**changes):
    values = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return validated(settings_model(values), values, "settings")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": []}, "at least 1 item"),
        ({"command": "python train.py --lr={lr}"}, "valid list"),
        ({"momentum": 0.9}, "nothing uses the key 'momentum', so runs that differ in it would be the same"),
        (
            {"command": ["python", "train.py", "{lr}", "{epochs}"]},
            "command has the unknown placeholder {epochs}; known:",
        ),
        ({"command": ["python", "{lr}", "{checkpoint}"]}, "a first attempt does not have; move it to resume"),
        ({"environment": {"A": "{step}"}}, "environment has {step}"),
        ({"environment": {"HF_TOKEN": "hf_0123456789"}}, "the variable HF_TOKEN looks like a secret, and reports show"),
        ({"progress": [r"^step \d+"]}, r"has no step; name the group of its number: (?P<step>\d+)"),
        ({"progress": ["("]}, "is not a regular expression (missing ), unterminated subpattern"),
        ({"metrics": ["loss .*"]}, r"names no metric; name a group: (?P<loss>\S+)"),
        ({"checkpoint": "/scratch/step-{step}.pt"}, "is outside of {out}; begin it with {out}/"),
        ({"checkpoint": "{out}/../step-{step}.pt"}, "is outside of {out}"),
        ({"command": ["python", "{lr}", "--output_dir=/rds/out"]}, "--output_dir /rds/out is one place for all runs"),
        ({"command": ["python", "{lr}", "--save-dir", "/rds/out"]}, "--save-dir /rds/out is one place for all runs"),
        ({"checkpoint": None}, "resume needs to know the checkpoint"),
        ({"progress_file": "log.csv"}, "is outside of {out}"),
        ({"out": "/scratch"}, "leaves the run's working directory"),
        ({"complete": "../ready"}, "leaves the run's working directory"),
        ({"stop": "KILL"}, "'TERM', 'INT', 'USR1' or 'USR2'"),
        ({"flops": {"parameters": 1e6}}, "write flops = 6e9, or flops = { parameters = 124e6, tokens = 491520 }"),
        ({"flops": 0}, "greater than 0"),
        ({"preset": "keras"}, "'huggingface', 'lightning', 'accelerate', 'torchtitan', 'ultralytics' or 'torch-save'"),
        ({"task": "module:function"}, "has a task and a command; leave one of the two out"),
        ({"table": {"a": 1}, "command": ["x", "{lr}", "{table}"]}, "is a table, which cannot be an argument"),
        ({"_private": 1}, "no key may be called '_private'"),
        (
            {"command": ["x", "{lr}", f"--hub_token=hf_{'a' * 30}"]},
            "looks like a secret token, and reports show study.toml",
        ),
        ({"environment": {"MY_API_KEY": "0123456789abc"}}, "looks like a secret"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes, words):
    with pytest.raises(UsageError) as refused:
        settings(**changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_keeps_its_settings_through_the_ledger():
    one = settings(preset="huggingface", checkpoint=None, resume=None)
    config = one.run_config()
    assert config.params["lr"] == 1e-3
    assert "preset" not in config.params
    again = settings_of(with_values(config.model_dump(mode="json"), {}))
    assert validated(settings_model(again), again, "ledger").run_config() == config


def test_a_key_of_a_later_release_changes_no_fingerprint():
    config = settings().run_config()
    params = {key: value for key, value in config.params.items() if key != "retry_exit_codes"}
    assert config.model_copy(update={"params": params}).fingerprint == config.fingerprint
    assert settings(lr=1e-4).run_config().fingerprint != config.fingerprint


def test_a_step_costs_what_is_declared():
    assert settings().flops.of_a_step == 6 * 10**9
    assert settings(flops="6e9").flops.of_a_step == 6 * 10**9
    assert settings(flops={"parameters": 124e6, "tokens": 491520}).flops.of_a_step == 6 * 124 * 10**6 * 491520


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_is_not_given(preset):
    given = {"command": ["python", "train.py", "--steps={steps}"], "preset": preset}
    found = validated(settings_model(given), given, "settings")
    assert isinstance(found, ProgramSettings)
    assert {key: getattr(found, key) for key in PRESETS[preset]} == PRESETS[preset]
    own = {**given, "checkpoint": "{out}/mine"}
    assert validated(settings_model(own), own, "settings").checkpoint == "{out}/mine"


def test_placeholders_become_values():
    values = {"lr": 1e-5, "scale": 1.0, "layers": [1, 2], "on": True, "name": "a b"}
    texts = ["--lr={lr}", "{layers}", "{on}", "{name}{scale}", "{{lr}}", '{"a": {"b": 1}}', "{1,2}"]
    assert arguments(texts, values) == [
        *("--lr=1e-05", "1", "2", "True", "a b1.0", "{lr}", '{"a": {"b": 1}}', "{1,2}"),
    ]
    assert names_in(texts) == ["lr", "layers", "on", "name", "scale"]
    with pytest.raises(KeyError):
        fill("{other}", values)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"seeds": [0, 1]}, "stage one varies seed, but the command of [train] has no {seed}"),
        ({"grid": {"seed": [0, 1]}}, "stage one varies seed"),
        ({"steps": 9}, "stage one varies steps, but the command of [train] has no {steps}"),
    ],
)
def test_a_stage_cannot_vary_what_its_program_does_not_get(stage, words):
    """Equal runs would be reported as a spread of 0."""
    values = {"train": GOOD, "stage": [{"name": "one", "grid": {"lr": [1e-3, 1e-4]}, **stage}]}
    with pytest.raises(UsageError) as refused:
        validated(study_model(values), values, "study.toml")
    assert words in str(refused.value)
    values["train"] = {**GOOD, "command": [*GOOD["command"], "{seed}", "{steps}"]}
    assert validated(study_model(values), values, "study.toml").stage


@pytest.mark.parametrize("variable", [{"TOKENIZERS_PARALLELISM": "true-ish-value"}, {"MAX_TOKENS": "40960000"}])
def test_a_variable_that_only_sounds_like_a_secret_is_taken(variable):
    assert settings(environment=variable).environment == variable
