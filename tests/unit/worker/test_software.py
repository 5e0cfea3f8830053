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


def record(layout, generation, packages, problem=""):
    journal = JournalWriter(layout.journal(generation))
    said = record_software(layout, generation, journal, packages, problem)
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
