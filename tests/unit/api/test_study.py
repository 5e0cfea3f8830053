"""`lvjobs.Study`: what a program or a notebook is given, on the simulated cluster."""

import dataclasses
import json
import time
from types import SimpleNamespace

import pytest
from remedy_scenes import PRICED, STAGES, typed_scene

import lvjobs
from lvjobs.api import results, updates
from lvjobs.control.submission import declare
from lvjobs.errors import UsageError
from lvjobs.tasks.registry import rates_of


@pytest.fixture
def scene(tmp_path, monkeypatch):
    made = typed_scene(tmp_path, monkeypatch, PRICED + STAGES)
    monkeypatch.setattr(
        updates,
        "time",
        SimpleNamespace(
            time=time.time, monotonic=time.monotonic, sleep=lambda seconds: made.cluster.advance(max(1, int(seconds)))
        ),
    )
    return made


@pytest.fixture
def study(scene):
    return lvjobs.Study.open(scene.study.root)


def test_a_run_is_submitted_and_waited_for(study):
    submission = study.submit({"width": 8}, name="one")
    assert (submission.outcome, submission.new, submission.sent, submission.fit) == ("submitted", ["one"], 1, None)
    assert submission.job_id
    seen = []
    (run,) = study.wait(["one"], every=15, on_update=seen.append)
    assert (run.name, run.state, run.step, run.steps) == ("one", "completed", 12, 12)
    assert len(seen) > 1
    again = study.submit({"width": 8}, name="one")
    assert (again.outcome, again.existing, again.names) == ("exists", {"one": "completed"}, ("one",))


def test_waiting_ends_after_its_timeout_and_the_run_goes_on(study):
    study.submit(name="one")
    with pytest.raises(TimeoutError, match="they continue"):
        study.wait(["one"], timeout=0)
    assert not study.status().is_at_rest(["one"])


def test_a_run_has_every_field_that_json_has(study):
    study.submit(name="one")
    status = study.status()
    (row,) = status.summary["runs"]
    assert [field.name for field in dataclasses.fields(results.RunStatus)] == list(row)
    assert status.runs[0].to_dict() == row
    names = {field.name for field in dataclasses.fields(results.StageStatus)}
    assert names - {"origin"} | {"from"} == set(status.summary["stages"][0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.runs[0].state = "held"


def test_runs_are_records_that_tables_are_made_of(study):
    study.submit(name="one")
    study.submit({"width": 8}, name="two")
    runs = study.runs()
    assert json.loads(json.dumps([run.to_dict() for run in runs])) == study.status().summary["runs"]
    pandas = pytest.importorskip("pandas")
    assert list(pandas.DataFrame(runs)["name"]) == ["one", "two"]


def test_a_run_is_explained_cancelled_and_not_found(study):
    study.submit(name="one")
    assert study.why("one").run.name == "one"
    assert study.why("one").why.headline
    assert study.history("one").moments[0].kind == "declared"
    assert study.queue().runs[0].name == "one"
    assert [line for line in study.cancel("one").changes if line.startswith("one")]
    assert study.runs()[0].state == "cancelled"
    with pytest.raises(UsageError, match="another"):
        study.why("another")


def test_a_paused_run_is_resumed_with_other_settings(study):
    one, other = study.sweep("first").names
    assert study.stop("first").changes[0] == "first: stopped"
    assert {run.state for run in study.runs()} == {"paused"}
    with pytest.raises(UsageError, match="what the run trains"):
        study.resume(one, settings={"width": 8})
    with pytest.raises(UsageError, match="name them"):
        study.resume(settings={"checkpoint_every": 2})
    changes = study.resume(one, settings={"checkpoint_every": 2}).changes
    assert "checkpoint_every" in next(line for line in changes if line.startswith(f"{one}: resumed by the user"))
    assert {run.name: run.state for run in study.runs()} == {one: "queued", other: "paused"}


def test_the_last_status_is_free_and_says_that_it_is_old(study):
    with pytest.raises(UsageError, match="was never updated"):
        study.status(reconcile=False)
    study.submit(name="one")
    assert (study.reconcile().stale, study.status(reconcile=False).stale) == ("", "not updated (--no-pass)")


def test_stages_are_planned_swept_and_decided(study):
    assert (study.plan().fits, study.plan("first").needed) == (True, study.estimate("first").needed)
    assert study.sweep("first").outcome == "submitted"
    assert study.sweep("all").outcome == "requested"
    runs = study.wait(every=15)
    assert {run.stage for run in runs} == {"first", "second"}
    assert [stage.state for stage in study.stages()] == ["completed", "completed"]
    other = next(run for run in runs if run.stage == "second" and run.name != study.stages()[1].winner)
    study.choose_winner("second", other.name, "a test")
    assert (study.stages()[1].winner, study.stages()[1].by_hand) == (other.name, True)
    assert study.retry("first").changes[0] == "first: none of its runs is held"


def test_what_the_budget_refuses_is_proposed_shorter(study, monkeypatch):
    monkeypatch.setattr(declare, "rates_of", rates_of)  # a step of the task costs 1e6 FLOPs
    assert study.plan().fits
    study.set_budget("1e3", "a test")
    assert not study.plan().fits
    study.set_budget("1e9", "a test")
    with pytest.raises(UsageError, match="nothing was submitted"):
        study.submit({"steps": 10_000}, name="long")
    proposals = []
    with pytest.raises(UsageError, match="nothing was submitted; submit fewer"):
        study.submit({"steps": 10_000}, name="long", agree=proposals.append)
    assert [run.steps < 10_000 for run in proposals[0].configs] == [True]
    assert study.runs() == []
    fitted = study.submit({"steps": 10_000}, name="long", agree=lambda _: True)
    assert (fitted.outcome, study.runs()[0].steps) == ("submitted", fitted.fit.configs[0].steps)
    assert study.budget().free < study.budget().limit == 10**9


def test_a_preview_submits_nothing(study):
    preview = study.preview({"steps": 24})
    assert "lvjobs.worker" in preview.script
    assert preview.estimate["stages"][0]["steps"] == 24
    assert study.runs() == []


def test_a_study_is_created_and_opened(tmp_path):
    with pytest.raises(UsageError, match="there is no study"):
        lvjobs.Study.open(tmp_path)
    made = lvjobs.Study.create(tmp_path / "new", preset="study-tiny")
    assert made.root == lvjobs.Study.open(tmp_path / "new").root
    with pytest.raises(UsageError, match="exists"):
        lvjobs.Study.create(tmp_path / "new")
    assert lvjobs.Study.create(tmp_path / "new", force=True).config.profile == "local"


def test_a_task_of_ones_own_is_not_evaluated(study):
    with pytest.raises(UsageError, match="makes no forecasts"):
        study.submit(name="one", evaluate=True)


def test_a_report_says_what_was_written(study):
    study.submit(name="one")
    report = study.report()
    assert report.directory == study.root / "report"
    assert [name for name in report.files if not (report.directory / name).is_file()] == []
    assert report.missing


def test_two_studies_in_one_process_have_each_its_own_task(tmp_path):
    """Their files are called the same."""
    studies = []
    for name, cost in (("a", 1000), ("b", 3000)):
        root = tmp_path / name
        root.mkdir()
        (root / "twin.py").write_text(
            f"import lvjobs\n\n\n@lvjobs.task(flops={{'training': {cost}, 'validation': 0}})\ndef train(run): ...\n"
        )
        (root / "study.toml").write_text('[train]\ntask = "twin:train"\nsteps = 10\ncheckpoint_every = 5\n')
        studies.append(lvjobs.Study.open(root))
    needed = [study.estimate("train").needed for study in (*studies, *studies)]
    assert needed == [15_000, 45_000] * 2, "ten steps, and an interval of replay"
