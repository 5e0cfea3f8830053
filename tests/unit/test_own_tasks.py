"""Tasks of one's own: what they may be declared with, what they cost, what they are called, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from forked import Forked

import lvjobs
from lvjobs.api.settings import own_settings
from lvjobs.cli import cli
from lvjobs.control.budget.cost import work_ahead
from lvjobs.control.submission.declare import default_name
from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING
from lvjobs.study.config import load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.settings import OwnSettings, TrainSettings
from lvjobs.tasks import ask_process, function, registry
from lvjobs.tasks.registry import rates_of
from lvjobs.worker.task import ATTRIBUTE, TaskDeclaration, task

pytestmark = pytest.mark.heavy

MODULE = """
import lvjobs

@lvjobs.task
def counted(run):
    import torch
    width = run.config.params["width"]
    weight = torch.ones(width, 8, requires_grad=True)
    setup = torch.ones(100, 100) @ torch.ones(100, 100)  # no step
    run.resume()
    for step in range(run.step + 1, run.config.steps + 1):
        (torch.ones(4, width) @ weight).sum().backward()
        run.log(step, loss=1.0)
        if run.due(step):
            torch.ones(10, width) @ weight.detach()
            run.validated(step, loss=1.0)
            run.checkpoint(step, {"weight": weight.detach()})
        if run.should_stop():
            return

@lvjobs.task(flops=lambda config: {"training": 7 * config.params["width"], "validation": 3})
def declared(run):
    raise AssertionError("what is declared is not tried")

@lvjobs.task(flops=lambda config: 1000 * config.steps + config.seed)
def by_the_run(run):
    pass

@lvjobs.task
def broken(run):
    print("something that is no answer")
    raise ValueError("no data here")

@lvjobs.task
def idle(run):
    run.log(1, loss=1.0)

@lvjobs.task(flops=-5)
def odd(run):
    pass

def plain(run):
    run.log(1, loss=1.0)
"""


@pytest.fixture(scope="module")
def forked():
    """Processes with torch in them, and with what a measurement needs."""
    imports = (
        "torch._dynamo",
        "torch.utils.flop_counter",
        "lvjobs.study.run",
        "lvjobs.worker.determinism",
        "lvjobs.worker.process_group",
    )
    with Forked(*imports) as forked:
        yield forked


@pytest.fixture
def place(tmp_path, monkeypatch, forked):
    """A study's directory with tasks in it, which this process has not heard of. They are asked in forks."""
    forked.answers(monkeypatch)
    (tmp_path / "own_tasks_here.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(function, "_known", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(name, width=16, **own):
    return RunConfig(task=f"own_tasks_here:{name}", params={"width": width}, **{"steps": 40, **own})


def typed(*arguments):
    return CliRunner().invoke(cli, [*arguments], standalone_mode=False)


# -- what they cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 32])
def test_the_first_step_is_counted_and_neither_what_was_built_before_nor_the_validation_is_in_it(place, width):
    rates = rates_of(config("counted", width))
    forward, backward, validation = 2 * 4 * width * 8, 2 * 4 * width * 8, 2 * 10 * width * 8
    counted = {"training": forward + backward, "validation": validation, "generation": 0}
    assert rates == {name: counted for name in BINDING}  # noqa: C420 - each has a dict of its own


def test_a_declared_cost_is_believed_and_nothing_is_tried(place):
    assert rates_of(config("declared", 10))["official"] == {"training": 70, "validation": 3, "generation": 0}


def test_a_function_that_is_no_task_declares_no_cost(place):
    assert rates_of(config("plain")) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [("broken", "ValueError: no data here"), ("idle", "no operation that torch can count"), ("odd", "-5 are no FLOPs")],
)
def test_one_that_cannot_be_asked_says_why_and_what_to_do(place, name, said):
    with pytest.raises(UsageError, match=r"nothing was submitted: fix it, or declare") as refused:
        rates_of(config(name))
    assert said in str(refused.value)


def test_many_are_asked_at_once_and_each_once(place, monkeypatch):
    asked = []
    ask = function._ask
    monkeypatch.setattr(function, "_ask", lambda configs: asked.append(len(configs)) or ask(configs))
    cells = [config("declared", width) for width in (1, 2, 3)]
    registry.learn([*cells, *cells])
    assert [rates_of(cell)["official"]["training"] for cell in cells] == [7, 14, 21]
    assert asked == [3]


def test_a_cost_that_is_a_function_of_the_configuration_is_asked_for_each_run(place):
    """Whatever it looks at: it is given all of it."""
    cells = [config("by_the_run", steps=steps, seed=seed) for steps in (5, 40) for seed in (0, 1)]
    registry.learn(cells[:2])
    assert [rates_of(cell)["official"]["training"] for cell in cells] == [5000, 5001, 40_000, 40_001]


def test_a_step_is_counted_once_for_runs_that_differ_in_seed_or_length(place, monkeypatch):
    asked = []
    ask = function._ask
    monkeypatch.setattr(function, "_ask", lambda configs: asked.append(configs) or ask(configs))
    rates = [rates_of(config("counted", steps=steps, seed=steps)) for steps in (5, 40)]
    assert rates[0] == rates[1]
    assert len(asked) == 1


def test_a_cost_is_asked_anew_when_the_task_was_edited(place):
    """As `lvjobs watch` may see it: one process, and a stage that begins after the edit."""
    assert rates_of(config("declared", 10))["official"]["training"] == 70
    (place / "own_tasks_here.py").write_text(MODULE.replace('"training": 7 *', '"training": 11 *'))
    assert rates_of(config("declared", 10))["official"]["training"] == 110


def test_the_cells_of_a_grid_over_steps_have_each_its_own_price(place):
    study(place, STUDY.replace("counted", "by_the_run") + '[[stage]]\nname = "a"\ngrid = { steps = [10, 20] }\n')
    done = typed("estimate", "--json")
    assert done.exception is None, done.output
    (stage,) = json.loads(done.output)["stages"]
    assert stage["training"]["official"] == 10 * 10_000 + 20 * 20_000


def test_fewer_steps_are_proposed_at_the_price_of_fewer_steps(place):
    """40 steps and an interval of replay, at 40,000, are 2e6; 20 and the interval, at 20,000, fit into 7e5."""
    study(place, STUDY.replace("counted", "by_the_run") + "[budget]\nlimit = 7e5\n")
    done = typed("submit", "run", "--dry-run", "--fit", "--json")
    assert done.exception is None, done.output
    assert json.loads(done.output)["fit"]["proposed"] == {
        "flops": (20 + 10) * 20_000,
        "runs": [{"count": 1, "steps": 20, "validate_every": 10}],
    }


def test_a_validation_is_one_unit_whatever_it_reads(place):
    work = work_ahead(config("counted", validate_every=10).model_dump(), 0)
    assert (work.training, work.validation) == (40, 5)


def test_flops_are_whole_numbers_of_kinds_that_exist():
    for wrong in ({"forecast": 1}, {"training": 1.5}, {"training": True}, {"validation": 3}, 0):
        with pytest.raises(ValueError, match=r"FLOPs|costs something"):
            TaskDeclaration(wrong).declared(config("plain"))


def test_the_mark_leaves_the_function_as_it_is():
    def train(run):
        return run

    assert task(train) is train
    assert getattr(train, ATTRIBUTE) == TaskDeclaration(None)
    assert task(flops=3)(train) is train
    assert getattr(train, ATTRIBUTE) == TaskDeclaration(3)
    assert lvjobs.task is task


def test_the_package_alone_loads_nothing_of_it():
    code = "import sys, lvjobs; print([name for name in sys.modules if name.startswith('lvjobs.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


# -- study.toml -----------------------------------------------------------------------------------------------------

STUDY = """
[train]
task = "own_tasks_here:counted"
steps = 40
checkpoint_every = 10
width = 16
rate = 1e-3
"""


def study(place, text=STUDY):
    (place / "study.toml").write_text(text)
    return load_study(place)


def test_the_keys_of_train_are_those_that_it_gives_a_value(place):
    found = study(place)
    assert isinstance(found.config.train, OwnSettings)
    made = found.config.train.run_config()
    assert (made.task, made.steps, made.params) == ("own_tasks_here:counted", 40, {"width": 16, "rate": 1e-3})
    assert found.config.stage == [], "the published stages are not of these keys"


def test_without_a_task_it_is_the_forecasting_as_ever(place):
    assert isinstance(study(place, "").config.train, TrainSettings)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[[stage]]\nname = "a"\nspace = { widht = [1, 2] }\nsearch = { trials = 2 }', "did you mean 'width'"),
        (
            '[[stage]]\nname = "a"\nspace = { width = { low = 1.5, high = 3 } }\nsearch = { trials = 2 }',
            "is a whole number",
        ),
        ('[[stage]]\nname = "a"\nevaluate = ["b"]\n[[stage]]\nname = "b"', "make none: leave it out"),
    ],
)
def test_a_stage_that_asks_for_what_is_not_there_is_refused(place, lines, said):
    with pytest.raises(UsageError, match=said):
        study(place, STUDY + lines)


def test_a_key_that_none_may_have_is_refused(place):
    with pytest.raises(UsageError, match="no key may be called 'copy'"):
        study(place, STUDY + "copy = 1\n")


def test_a_value_of_another_kind_is_refused(place):
    study(place)
    done = typed("submit", "run", "--set", "width=many", "--dry-run")
    assert isinstance(done.exception, UsageError)
    assert "width = 'many'" in str(done.exception)


def test_a_name_says_what_the_stage_varies():
    made = RunConfig(task="m:train", steps=5, params={"width": 16, "rate": 1e-3, "path": "/some/where"})
    end = f"s0-{made.fingerprint[:4]}"
    assert default_name(made) == f"train-{end}"
    assert default_name(
        made, "one", ["width", "rate", "path"]
    ) == f"one-width16-rate0.001-path/some/where-{end}".replace("-path/some/where", "")
    many = {f"a_long_key_{number}": number for number in range(20)}
    assert len(default_name(RunConfig(task="m:train", steps=5, params=many), "one", list(many))) <= 70


def test_a_table_of_the_tasks_own_in_train_is_one_of_its_settings(place):
    (place / "settings.toml").write_text('[train]\ntask = "m:train"\n[train.optimizer]\nrate = 0.5\n')
    made = own_settings(study(place, ""), None, Path("settings.toml")).run_config()
    assert (made.task, made.params) == ("m:train", {"optimizer": {"rate": 0.5}})


# -- the command ----------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_script_and_what_it_would_cost(place, monkeypatch):
    """Asked in a process that begins with nothing, as users' are."""
    monkeypatch.setattr(ask_process, "subprocess", subprocess)
    study(place)
    done = typed("submit", "run", "--dry-run", "--json", "--steps", "80")
    assert done.exception is None, done.output
    (stage,) = json.loads(done.output)["estimate"]["stages"]
    assert stage["training"]["official"] == 80 * 2 * 2 * 4 * 16 * 8


@pytest.mark.parametrize("header", ["", "[train]\n"])
def test_a_file_of_its_own_will_do(place, header):
    """With its keys alone, or with the table that they are in in study.toml."""
    (place / "settings.toml").write_text(f"{header}steps = 20\nwidth = 4\n")
    done = typed("submit", "run", "own_tasks_here:declared", "--config", "settings.toml", "--dry-run", "--json")
    assert done.exception is None, done.output
    (stage,) = json.loads(done.output)["estimate"]["stages"]
    assert stage["training"]["official"] == 20 * 7 * 4


@pytest.mark.parametrize("command", ["submit", "rehearse"])
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("steps = 20\n[optimizer]\nrate = 1e-3\n", "write a table of the task's own settings as [train.optimizer]"),
        ("[train]\nsteps = 20\n[budget]\nlimit = 1e9\n", "[budget] is a table that is not read"),
        ('[train]\nsteps = 20\n[[stage]]\nname = "a"\n', "[stage] is a table that is not read"),
        ('profile = "local"\n[train]\nsteps = 20\n', "keys outside of [train] (profile); write all keys under [train]"),
        ("[[train]]\nsteps = 20\n", "[[train]] is a list of tables; write [train], once"),
    ],
)
def test_a_file_with_another_table_than_train_is_refused(place, command, lines, said):
    (place / "settings.toml").write_text(lines)
    words = {"submit": ["submit", "run"], "rehearse": ["rehearse"]}[command]
    done = typed(*words, "own_tasks_here:declared", "--config", "settings.toml")
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not list(Path().glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no task was named"),
        (["own_tasks_here:plain"], "is not marked as a task"),
        (["no_such_module:train"], "No module named 'no_such_module'"),
        (["own_tasks_here:broken"], "ValueError: no data here"),
        (["own_tasks_here"], "task"),
    ],
)
def test_what_no_job_could_run_is_refused_before_anything_is_written(place, arguments, said):
    done = typed("submit", "run", *arguments)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not list(Path().glob("checkpoints/*"))


def test_each_kind_of_run_has_its_command(place):
    study(place)
    done = typed("submit", "train")
    assert isinstance(done.exception, UsageError)
    assert "lvjobs submit run" in str(done.exception)
    done = typed("evaluate", "--zero-shot", "raw")
    assert isinstance(done.exception, UsageError)
    assert "a task of your own" in str(done.exception)
