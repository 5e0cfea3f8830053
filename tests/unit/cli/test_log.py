"""`lvjobs log`: one line in the file of progress, from any language."""

import json
import os
import subprocess
import sys

import pytest

from lvjobs.cli.log import _NAME, _TAKEN
from lvjobs.study.program.command import CommandConfig
from lvjobs.worker.program import progress
from lvjobs.worker.program.progress import GrowingFile, LineParser


@pytest.fixture
def logged(tmp_path, monkeypatch):
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv("LVJOBS_PROGRESS", str(path))
    return path


def test_a_step_is_one_line_of_json(logged, typed):
    assert typed("log", "--step", "10", "loss=0.5", "accuracy=9e-1")[:2] == (0, "")
    assert typed("log", "--step", "20", "--validation", "loss=-1")[0] == 0
    first, second = logged.read_text().splitlines()
    assert json.loads(first) == {"step": 10, "loss": 0.5, "accuracy": 0.9}
    assert json.loads(second) == {"step": 20, "loss": -1.0, "validation": True}


def test_the_worker_reads_what_was_logged(logged, typed):
    typed("log", "--step", "0", "loss=0.5")
    typed("log", "--step", "9", "loss=nan", "eval/top-1=0.25", "--validation")
    parser = LineParser(CommandConfig(command=["x"], first_step=0), {})
    first, second = [
        report for each in GrowingFile(logged.parent, logged.name).records() for report in parser.record(each)
    ]
    assert (first.step, dict(first.metrics), first.is_validation) == (1, {"loss": 0.5}, False)
    assert (second.step, second.metrics["eval/top-1"], second.is_validation) == (10, 0.25, True)
    assert second.metrics["loss"] != second.metrics["loss"]  # a loss that is not a number is reported as such


def test_names_are_refused_that_the_worker_would_leave_out():
    assert progress._TAKEN | {"validation"} == _TAKEN
    assert progress._NAME.pattern == _NAME.pattern


@pytest.mark.parametrize(
    "word", ["loss", "=0.5", "loss=", "loss=high", "loss=0.5%", "1st=2", "step=4", "time=1", "a b=1", "validation=1"]
)
def test_what_is_no_metric_is_refused_and_nothing_is_logged(logged, typed, word):
    code, _, err = typed("log", "--step", "1", "ok=1", word)
    assert (code, err.count("\n")) == (2, 1)
    assert not logged.exists()


def test_outside_of_a_run_one_line_says_so(typed, monkeypatch):
    monkeypatch.delenv("LVJOBS_PROGRESS", raising=False)
    code, _, err = typed("log", "--step", "1", "loss=1")
    assert (code, err.count("\n")) == (2, 1)
    assert "not inside a run" in err


def test_a_file_that_cannot_be_written_is_an_error(tmp_path, typed, monkeypatch):
    monkeypatch.setenv("LVJOBS_PROGRESS", str(tmp_path / "gone" / "progress.jsonl"))
    code, _, err = typed("log", "--step", "1")
    assert (code, err.count("\n")) == (1, 1)
    assert "No such file" in err


def test_a_line_is_appended_by_one_write(logged, typed, monkeypatch):
    logged.write_text('{"step": 1}\n')
    calls, write = [], os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: calls.append(data) or write(descriptor, data))
    typed("log", "--step", "2", "loss=1")
    assert [data for data in calls if b"step" in data] == [b'{"step": 2, "loss": 1.0}\n']
    assert logged.read_text() == '{"step": 1}\n{"step": 2, "loss": 1.0}\n'


def test_a_full_disk_is_not_hidden(logged, typed, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:4]))
    code, _, err = typed("log", "--step", "2", "loss=1")
    monkeypatch.undo()
    assert code == 1
    assert "the disk is full" in err


def test_logging_loads_no_heavy_module(logged):
    program = (
        "import sys; from lvjobs.cli import main; sys.argv = ['lvjobs', 'log', '--step', '1', 'loss=1']; main(); "
        "print(sorted({'pydantic', 'sqlalchemy', 'torch', 'numpy', 'rich', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert logged.read_text() == '{"step": 1, "loss": 1.0}\n'
