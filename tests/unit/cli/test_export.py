"""`lvjobs export`, `lvjobs completion`, and what other packages may bring."""

import csv
import importlib.metadata
import json
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from control_scenes import Scene, begun, make_haste

from lvjobs.api import settings
from lvjobs.cli import cli
from lvjobs.cluster import templates
from lvjobs.cluster.profiles import load_profile
from lvjobs.errors import UsageError

pytestmark = pytest.mark.heavy


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    root = tmp_path / "study"
    root.mkdir()
    scene = begun(Scene(root))
    monkeypatch.chdir(scene.root)
    return scene


def typed(*arguments):
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


def test_everything_is_written_in_each_format(scene):
    done = typed("export", "out", "--to", "csv", "--to", "jsonl")
    assert done.exception is None, done.output
    tables = {"runs", "attempts", "charges", "stages", "metrics"}
    assert {path.name for path in Path("out/tables").iterdir()} == {
        f"{t}.{f}" for t in tables for f in ("csv", "jsonl")
    }
    with Path("out/tables/metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    steps = [int(row["step"]) for row in rows if row["metric"] == "loss" and row["kind"] == "training"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 4
    lines = Path("out/tables/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(rows)
    assert json.loads(lines[0])["run"] == "one"


def test_tensorboard_reads_what_was_written(scene):
    pytest.importorskip("tensorboard")
    done = typed("export", "out", "--to", "tensorboard")
    assert done.exception is None, done.output
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator("out/tensorboard/one")
    read.Reload()
    losses = read.Scalars("training/loss")
    assert [each.step for each in losses] == list(range(1, len(losses) + 1))
    assert len(losses) > 4


def test_what_is_there_is_not_written_over_unasked(scene):
    assert typed("export", "out", "--to", "csv").exception is None
    (scene.root / "out" / "mine.txt").write_text("mine")
    done = typed("export", "out", "--to", "csv")
    assert isinstance(done.exception, UsageError)
    assert typed("export", "out", "--to", "csv", "--force").exception is None
    assert (scene.root / "out" / "mine.txt").read_text() == "mine"


def test_without_tensorboard_all_other_formats_are_written(scene, monkeypatch):
    monkeypatch.setattr("lvjobs.cli.publish.find_spec", lambda _name: None)
    done = typed("export", "out")
    assert (done.exception, done.exit_code) == (None, 0)
    assert "no TensorBoard files" in done.stderr
    assert "-m pip install 'lvjobs[tensorboard]'" in done.stderr
    assert Path("out/tables/runs.csv").exists()
    assert not Path("out/tensorboard").exists()


# -- completion -----------------------------------------------------------------------------------------------------


def completed(*words, incomplete=""):
    return [item.value for item in ShellComplete(cli, {}, "lvjobs", "_X").get_completions(list(words), incomplete)]


def test_runs_are_completed_by_the_last_passs_summary(scene):
    for command in ("why", "status", "cancel", "resume", "logs", "evaluate"):
        assert completed(command, incomplete="o") == ["one"], command
    assert completed("why", incomplete="x") == []


def test_where_there_is_no_study_there_are_no_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert completed("why") == []


def test_commands_are_completed():
    assert {"why", "watch"} <= set(completed(incomplete="w"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    done = typed("completion", shell)
    assert "_LVJOBS_COMPLETE" in done.output


# -- other packages -------------------------------------------------------------------------------------------------


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A package that brings a profile and a task, as if it were installed."""
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('nobody has to import this')\n")
    template = templates.shipped("generic")
    (package / "mysite.sh.j2").write_text(template.read_text())
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    points = {
        "lvjobs.profiles": [importlib.metadata.EntryPoint("mysite", "mylab", "lvjobs.profiles")],
        "lvjobs.tasks": [importlib.metadata.EntryPoint("segment", "mylab.train:segment", "lvjobs.tasks")],
    }
    for module in (templates, settings):
        monkeypatch.setattr(module, "entry_points", lambda group: points.get(group, []))
    return package


def test_a_package_may_bring_a_profile(brought):
    assert load_profile("mysite").path == brought / "mysite.sh.j2"
    with pytest.raises(UsageError, match="mysite"):
        load_profile("elsewhere")


def test_a_package_may_bring_a_task(brought):
    assert settings.installed_task("segment") == "mylab.train:segment"
    assert settings.installed_task("other") == "other"
    assert settings.installed_task("a.b:c") == "a.b:c"
