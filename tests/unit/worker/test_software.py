"""The record of an attempt's software: what it says, what it is compared with, and what no disk may break."""

import json

import pytest
from worker_helpers import entries, make_run

import lvjobs
from lvjobs.tasks.packages import keep_packages
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.software import record_software

OLD, NEW = {"python": "3.11.7", "torch": "2.4.0"}, {"python": "3.11.7", "torch": "2.5.1"}


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A run whose code was copied with its origin."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = make_run(tmp_path / "study" / "checkpoints" / "run")
    code = found.study.code / "c0de"
    code.mkdir(parents=True)
    origin = {"commit": "1" * 40, "dirty": False, "packages": keep_packages(found.study.packages, OLD)}
    (code / "_origin.json").write_text(json.dumps(origin))
    monkeypatch.setattr(lvjobs, "__file__", str(code / "lvjobs" / "__init__.py"))
    return found


def record(layout, generation, packages, problem="", image=None):
    journal = JournalWriter(layout.journal(generation))
    said = record_software(layout, generation, journal, packages, problem, image)
    journal.close()
    return said, entries(layout, "software")[-1]


def test_the_first_attempt_is_compared_with_the_submission(layout):
    said, found = record(layout, 1, NEW)
    assert said == ["attempt 1 ran with other packages than the submission: torch 2.4.0 -> 2.5.1"]
    assert (found["commit"], found["dirty"], found["since"]) == ("1" * 40, False, 0)
    assert record(layout, 2, NEW)[0] == [], "nothing changed since attempt 1"


def test_modules_of_a_job_may_add_what_the_submission_did_not_see(layout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert record(layout, 1, NEW)[0] == []


def test_an_attempt_is_compared_with_the_last_one_that_has_a_record(layout):
    record(layout, 1, OLD)
    journal = JournalWriter(layout.journal(2))
    journal.write("start", generation=2)
    journal.close()
    (layout.study.code / "c0de" / "_origin.json").write_text(json.dumps({"commit": "2" * 40, "dirty": True}))
    said, found = record(layout, 4, NEW)
    assert said == [
        "attempt 4 ran with other packages than attempt 1: torch 2.4.0 -> 2.5.1",
        "attempt 4 ran with other code than attempt 1: commit 111111111111 -> 222222222222 (with changes)",
    ]
    assert found["since"] == 1


def test_unknown_packages_are_compared_with_nothing(layout):
    record(layout, 1, OLD)
    said, found = record(layout, 2, {}, "python cannot be executed")
    assert said == ["python cannot be executed"]
    assert (found["problem"], found.get("packages")) == ("python cannot be executed", None)


def test_a_list_that_cannot_be_kept_stops_no_run(layout):
    for path in layout.study.packages.iterdir():
        path.unlink()
    layout.study.packages.rmdir()
    layout.study.packages.touch()
    said, found = record(layout, 1, NEW)
    assert "the list of packages cannot be kept in" in said[0]
    assert found["versions"]["torch"] == "2.5.1"


def test_an_image_that_changed_is_named(layout):
    """The first attempt is compared with the submission, and each later one with the attempt before it."""
    path = layout.study.code / "c0de" / "_origin.json"
    old, new = ({"image": "/x.sif", "kind": "file", "sha256": digit * 64} for digit in "12")
    path.write_text(json.dumps({**json.loads(path.read_text()), "image": old}))
    said, found = record(layout, 1, {}, image=new)
    assert said == ["attempt 1 ran with other code than the submission: the container's image changed"]
    assert (found["image"], found["commit"]) == (new, "1" * 40)
    assert record(layout, 2, {}, image=new)[0] == []
    said, found = record(layout, 3, {}, "x.sif: permission denied")
    assert (said, found.get("image")) == (["x.sif: permission denied"], None)
    assert record(layout, 4, {}, image=old)[0] == []
    assert record(layout, 5, {}, image={**new, "image": "/y.sif"})[0] == [], "another run of the same submission"


def test_an_attempt_without_packages_and_commit_is_compared_by_its_image(layout):
    (layout.study.code / "c0de" / "_origin.json").unlink()
    old, new = ({"image": "/x.sif", "sha256": digit * 64} for digit in "12")
    assert record(layout, 1, {}, image=old)[0] == []
    said = ["attempt 2 ran with other code than attempt 1: the container's image changed"]
    assert record(layout, 2, {}, image=new)[0] == said
