"""A program in a container on this machine: its image is recorded, and compared when it changes."""

import json
import os
import signal
import time

import pytest
from container_images import make_image

from lvjobs.records.journal import parse_entries
from lvjobs.records.software import record_of
from lvjobs.study.layout import StudyLayout

STUDY = """\
profile = "local"

[train]
command = [{program}, "-n", "{{steps}}", "-c", "{{checkpoint_every}}", "-o", "{{out}}", "-s", "30"]
resume = ["-r", "{{checkpoint}}"]
checkpoint = "{{out}}/state-{{step}}.bin"
progress = '^step (?P<step>\\d+) residual (?P<residual>\\S+)'
flops = 4e5
steps = 60
checkpoint_every = 10
container = {{ image = "image", engine = "charliecloud" }}

[policy]
backoff_seconds = 0
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    make_image(tmp_path / "image", heat="heat.c", keep="keep.c")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submit(study, typed, program):
    (study / "study.toml").write_text(STUDY.format(program=json.dumps(program)))
    code, out, err = typed("submit", "run", "--name", "one")
    assert code == 0, (out, err)


def until(typed, state, seconds=300):
    """Make passes until the run is in this state."""
    end = time.monotonic() + seconds
    while True:
        assert typed("resume")[0] == 0
        (row,) = json.loads(typed("status", "--json", "--no-pass")[1])["runs"]
        if row["state"] == state:
            return row
        assert time.monotonic() < end, row
        time.sleep(0.1)


def images(study):
    """The image in each attempt's record."""
    paths = sorted(StudyLayout(study).run("one").journals.glob("*.jsonl"))
    return [record_of(parse_entries(path.read_bytes())[0])["image"] for path in paths]


def test_a_retry_in_a_changed_image_goes_on_and_why_says_so(study, typed):
    submit(study, typed, "heat")
    journal = StudyLayout(study).run("one").journal(1)
    end = time.monotonic() + 300
    while '"step":20' not in (text := journal.read_text() if journal.exists() else ""):
        assert time.monotonic() < end, text
        time.sleep(0.05)
    os.kill(json.loads(text.splitlines()[0])["pid"], signal.SIGKILL)
    (study / "image" / "bin" / "new").touch()
    assert until(typed, "completed")["attempts"] == 2
    line = "attempt 2 ran with other code than attempt 1: the container's image changed"
    assert line in " ".join(typed("why", "one")[1].split())
    first, second = images(study)
    assert first["image"] == second["image"] == str(study / "image")
    assert first["sha256"] != second["sha256"]
    (copy,) = StudyLayout(study).code.iterdir()
    assert json.loads((copy / "_origin.json").read_text())["image"] == first


def test_a_run_whose_image_is_gone_is_not_resumed(study, typed):
    submit(study, typed, "keep")  # it ends with an error, because it knows none of these arguments
    until(typed, "held")
    (study / "image").rename(study / "elsewhere")
    code, _, err = typed("resume", "one")
    assert code == 2
    assert f"container: {study}/image does not exist; correct `image` under [train]" in err
    (study / "elsewhere").rename(study / "image")
    assert typed("resume", "one")[0] == 0
