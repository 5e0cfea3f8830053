"""The answers of `lvjobs why` and `lvjobs status RUN`, whatever became of a run."""

import io
import re
from dataclasses import replace

import pytest
from control_scenes import Scene, begun, make_haste
from rich.console import Console
from simulator.engine import Manners

from lvjobs.control.inspect import why as module
from lvjobs.control.inspect.history import moments_of
from lvjobs.control.inspect.why import why
from lvjobs.control.reconcile.policy import leniency
from lvjobs.control.summary import find_row
from lvjobs.report.terminal.run_lines import print_history, print_why
from lvjobs.study.tables import Policy
from lvjobs.study.words import RunState
from lvjobs.tasks.code_copies import drift, snapshot_code


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    monkeypatch.setattr("lvjobs.control.backends.defaults_of", lambda _profile: {})
    monkeypatch.setattr(module, "drift", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    return Scene(tmp_path, backoff_seconds=30)


def asked(scene, name="one"):
    with scene.session() as session:
        row = find_row(session.make_pass(), name)
        return {"run": row, **why(session, row).to_dict()}


def shown(scene, name="one", width=80):
    stream = io.StringIO()
    print_why(asked(scene, name), Console(file=stream, width=width, force_terminal=True, color_system=None))
    return stream.getvalue()


def told(scene, name="one", *, whole=True):
    with scene.session() as session:
        row = find_row(session.make_pass(), name)
        with session.ledger.transaction() as transaction:
            run = transaction.find_run(name=name)
            moments = moments_of(run, transaction.attempts([run.id]), transaction.events(run.id, limit=1000))
    stream = io.StringIO()
    print_history(
        {"run": row, "story": [moment.to_dict() for moment in moments]}, whole=whole, console=Console(file=stream)
    )
    return moments, stream.getvalue()


def test_a_command_is_printed_whole_however_narrow_the_terminal_is(scene, tmp_path, monkeypatch):
    begun(scene)
    monkeypatch.chdir("/")
    lines = shown(scene, width=50).splitlines()
    at = lines.index(f"  lvjobs status one --study {scene.root}")
    assert lines[at + 1].strip() == "full history"


def types(found):
    return [each["type"] for each in found["remedies"]]


def test_of_one_that_was_preempted_and_waits(scene):
    begun(scene)
    scene.cluster.preempt(scene.job().id)
    while scene.causes() != ["preempted"]:
        scene.cluster.advance(1)
        scene.one_pass()
    found = asked(scene)
    assert found["headline"].startswith("interrupted (preempted), queued as job")
    assert {"what": "done", "said": f"lifted the requeue hold of job {scene.job().id}"} in found["evidence"]
    (then,) = found["then"]
    assert then.startswith("Slurm restarts its job, and the run continues from the checkpoint of step 6; ")
    assert re.search(r"; Slurm expects that by \w{3} \d\d \w{3} \d\d:\d\d$", then)
    assert found["evidence"][0]["what"] == "attempt 1"
    assert found["evidence"][0]["said"].startswith("preempted on ")
    assert "lvjobs cancel one" in types(found)


def test_of_one_that_is_running(scene):
    begun(scene)
    found = asked(scene)
    assert "running on " in found["headline"]
    assert "(attempt 1, job " in found["headline"]
    assert found["evidence"] == []
    assert found["then"] == ["it saves a checkpoint every 4 steps; if interrupted, it continues from the last"]


def test_of_one_that_is_held_for_an_error_in_its_code(scene):
    scene.worker.failing["one"] = 6
    scene.enter("one")
    scene.make_pass()
    log = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("a line\n" * 50 + "the last line\n")
    scene.go(60, every=5)
    found = asked(scene)
    assert found["headline"].startswith("held, waiting for you: ")
    assert found["printed"][-1] == "the last line"
    assert found["traceback"][-1] == "ValueError: no such thing"
    assert re.search(r"^code_error on n\d, job \S+$", found["evidence"][0]["said"]), "the traceback has the error"
    assert types(found)[:2] == ["lvjobs resume one", "lvjobs logs one"]
    assert found["then"][0] == "held until you run: lvjobs resume one"
    assert len(shown(scene).splitlines()) <= 45
    log.write_text(f"a line\n{found['traceback'][-1]}\nwhat srun said\n")
    assert asked(scene)["printed"] == ["what srun said"], "the traceback is told once"


def test_of_one_that_backs_off(scene):
    begun(scene)
    for _ in range(2):
        scene.cluster.kill(scene.job().id)
        scene.one_pass()
        if scene.run()["not_before"]:
            break
        scene.reach(2)
    found = asked(scene)
    said = {each["what"]: each["said"] for each in found["evidence"]}
    assert said["retries"].startswith("killed 2 of 5")
    assert "not before" in said
    assert any("when its back-off is over" in line for line in found["then"])


def test_of_one_that_waits_in_the_queue_with_what_would_start_sooner(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    monkeypatch.setattr("lvjobs.control.backends.defaults_of", lambda _profile: {})
    monkeypatch.setattr(module, "drift", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    scene = begun(Scene(tmp_path, manners=Manners(slots=1)))
    scene.enter("two", time_limit="60m")
    scene.make_pass()
    found = asked(scene, "two")
    assert found["headline"].startswith("queued as job")
    assert found["alternatives"]
    assert found["place"] == "the only pending job in partition simulated"
    assert "lvjobs queue two" in types(found)


def test_a_job_whose_reason_slurm_does_not_tell(scene):
    begun(scene)
    with scene.session() as session:
        row = find_row(session.make_pass(), "one")
        with session.ledger.transaction() as transaction:
            run = replace(transaction.find_run(name="one"), state=RunState.QUEUED, reason="")
    said = module.headline(run, {**row, "queue_reason": "None"}, (), 0.0)
    assert said == f"queued as job {row['job_id']}: Slurm gives no reason yet"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_of_one_that_is_over(scene, end):
    begun(scene)
    if end == "completed":
        scene.go(120)
    else:
        scene.cancel("one")
    found = asked(scene)
    assert end in found["headline"]
    assert "lvjobs status one" in types(found)
    assert "lvjobs evaluate one" not in types(found), "a task of one's own is no forecaster"
    assert not [typed for typed in types(found) if typed.startswith("lvjobs cancel")]


def test_of_one_that_the_budget_holds(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    monkeypatch.setattr(module, "drift", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    scene = begun(Scene(tmp_path, budget={"limit": 2_000}))
    scene.bind(limit=600)
    scene.cluster.kill(scene.job().id)
    scene.go(60, every=5)
    found = asked(scene)
    assert found["headline"].startswith("held, waiting for FLOPs: ")
    assert found["run"]["held_for"] == "budget"
    assert 'lvjobs budget set FLOPS --because "REASON"' in types(found)
    assert "it resumes automatically once enough FLOPs are free" in found["then"]


def test_code_that_was_edited_is_told_of(scene, monkeypatch):
    begun(scene)
    monkeypatch.setattr(module, "drift", lambda *_: ["a.py", "b.py", "c.py", "d.py"])
    found = asked(scene)
    (said,) = [each["said"] for each in found["evidence"] if each["what"] == "code"]
    assert said.startswith("edited since the run was submitted (a.py, b.py, c.py and 1 more); the run keeps")


def test_the_files_that_were_edited_are_named(tmp_path, monkeypatch):
    package = tmp_path / "somewhere" / "driftpackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("one = 1\n")
    monkeypatch.syspath_prepend(package.parent)
    store, task = tmp_path / "code", "driftpackage.train:train"
    name = snapshot_code(store, task).name
    assert drift(store, name, task) == []
    (package / "train.py").write_text("one = 2\n")
    (package / "new.py").write_text("")
    assert drift(store, name, task) == ["driftpackage/new.py", "driftpackage/train.py"]
    assert drift(store, "gone", task) == []


def test_what_is_forgiven_is_counted_as_the_policy_counts_it(scene):
    begun(scene)
    scene.cluster.kill(scene.job().id)
    scene.one_pass()
    with scene.session() as session, session.ledger.transaction() as transaction:
        run = transaction.find_run(name="one")
        attempts = [attempt for attempt in transaction.attempts([run.id]) if attempt.cause]
    assert leniency(run, attempts, Policy(killed_retries=7)) == "killed 1 of 7"
    assert leniency(run, [], Policy()) == ""


# -- the story ------------------------------------------------------------------------------------------------------


def test_a_story_tells_each_thing_once_and_in_order(scene):
    begun(scene)
    scene.cluster.preempt(scene.job().id)
    scene.go(300, every=5)
    assert scene.state() == "completed"
    moments, text = told(scene)
    kinds = [moment.kind for moment in moments]
    assert kinds[0] == "declared"
    assert kinds.count("began") == kinds.count("ended") == len(scene.causes()) == 2
    assert [moment.time for moment in moments] == sorted(moment.time for moment in moments)
    (first, _) = [moment for moment in moments if moment.kind == "ended"]
    assert first.cause == "preempted"
    assert first.text.count("preempted") == 1
    assert "is queued to continue" in first.text
    assert text.splitlines()[0].startswith("one  completed, step 12 of 12")
    assert "attempt 2 begins" in text


def test_a_long_story_is_folded_in_the_middle(scene):
    begun(scene)
    with scene.session() as session, session.ledger.transaction() as transaction:
        from lvjobs.ledger.records import Event

        run = transaction.find_run(name="one")
        for number in range(100):
            transaction.add_event(Event(scene.clock.now, "note", f"thing {number}", run.id))
    _, short = told(scene, whole=False)
    _, long = told(scene)
    assert "more entries: --all" in short
    assert "thing 99" in short
    assert "thing 50" not in short
    assert "thing 50" in long
    assert len(short.splitlines()) < 30
