"""The task of a run, and what the tasks that lvjobs knows by name share with other modules."""

import subprocess
import sys
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.forecasting import hub
from lvjobs.records.curves import LOSSES
from lvjobs.study.params import EVALUATE_TASK, LOSS_NAMES, TRAIN_TASK
from lvjobs.study.run import PARAMS, RunConfig
from lvjobs.study.settings import TrainSettings
from lvjobs.tasks.function import FunctionTask
from lvjobs.tasks.registry import BUNDLED, check_needs, task_of

TRAINING = TrainSettings(steps=10).run_config()
OWN = RunConfig(task="my.module:train", steps=1)


def test_each_task_that_has_a_name_has_settings_for_its_fingerprint():
    assert set(BUNDLED) == set(PARAMS)


def test_every_name_of_a_loss_is_read_from_journals():
    assert tuple(LOSS_NAMES.values()) == LOSSES


@pytest.mark.parametrize("config", [OWN, OWN.model_dump(mode="json"), {"steps": 1}])
def test_a_task_without_a_name_is_a_function_of_the_users(config):
    assert isinstance(task_of(config), FunctionTask)


@pytest.mark.parametrize("name", [TRAIN_TASK, EVALUATE_TASK])
def test_a_task_is_found_in_a_configuration_and_in_a_row_of_the_ledger(name):
    assert task_of({"task": name}) is task_of(RunConfig(task=name, steps=1)) is BUNDLED[name]


def test_the_registry_loads_neither_torch_nor_a_task():
    code = (
        "import sys, lvjobs.tasks.registry as found\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'lvjobs.forecasting.train'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_equal_needs_are_checked_once(monkeypatch):
    found = []
    monkeypatch.setattr(hub, "find_model", lambda model, decimals, *, instruct: found.append((model, instruct)))
    [(_, untrained)] = task_of(TRAINING).untrained(TRAINING.params, ["instruct"], [0])
    check_needs([TRAINING, TRAINING.model_copy(update={"seed": 1}), untrained, OWN], Path())
    assert found == [("tiny", False), ("tiny", True)]


def test_a_function_cannot_be_evaluated(tmp_path):
    task = task_of(OWN)
    assert not task.can_be_evaluated
    with pytest.raises(UsageError, match="one is not a forecasting run"):
        task.evaluation("one", {}, tmp_path, [0])
