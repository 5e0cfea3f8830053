"""Scenarios of remedies for runs: the trouble, what the message says to type, and the end of the trouble."""

import json
import shutil
from pathlib import Path

import pytest
from control_scenes import KILLED_BY_SLURM, begun, killed
from remedy_scenes import TOML, typed_scene
from simulator.engine import Manners

from lvjobs import remedies
from lvjobs.cluster import templates
from lvjobs.control.driver.notify import NoticeRecord, due
from lvjobs.errors import LvjobsError, RunRefused
from lvjobs.records.run_files import CheckpointName, Manifest
from lvjobs.study.run import RunFile
from lvjobs.worker.checkpoints import Checkpoint, write_checkpoint
from lvjobs.worker.saved_files import publish_final
from lvjobs.worker.submission import Submission

PRICED = TOML.replace("toy_task:train", "toy_task:priced")


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return typed_scene(tmp_path, monkeypatch, toml=PRICED)


def failed(scene, step=3):
    """The run, held after an error of its code, which is fixed."""
    scene.worker.failing["one"] = step
    begun(scene, taken=1)
    scene.go(60)
    assert scene.state() == "held"
    scene.worker.failing.clear()


def completes(scene, name="one", seconds=600):
    scene.go(seconds, every=20)
    return scene.state(name) == "completed"


def resumed(scene, take, message, **fields):
    """Type what the message says, and see the run completed."""
    code, _, err = take(remedies.RESUME_RUN, message, **{"run": "one", **fields})
    assert code == 0, err
    assert completes(scene)


# -- a run that is held ---------------------------------------------------------------------------------------------


@pytest.mark.remedy("RESUME_RUN", "LOGS")
def test_a_run_that_was_killed_too_often(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, no_progress_deaths=2, backoff_seconds=1)
    scene.enter("one")
    for _ in range(2):
        scene.cluster.kill(scene.reach(1).id)
        scene.make_pass()
    assert scene.state() == "held"
    path = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Killed\n")
    _, shown, _ = typed("why", "one")
    code, out, _ = take(remedies.LOGS, shown, run="one")
    assert (code, out) == (0, "Killed\n")
    resumed(scene, take, shown)


@pytest.mark.remedy("RESUME_RUN", "STATUS_RUN")
def test_an_error_of_its_code(scene, typed, take):
    failed(scene)
    _, shown, _ = typed("why", "one")
    code, story, _ = take(remedies.STATUS_RUN, shown, run="one")
    assert code == 0
    assert "no such thing" in story
    resumed(scene, take, shown)


@pytest.mark.remedy("RESUME_RUN")
def test_preempted_before_each_checkpoint(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, no_progress_preemptions=3)
    scene.enter("one")
    for _ in range(3):
        scene.cluster.fail_node(scene.reach(1).id)
        scene.make_pass()
    assert scene.state() == "held"
    resumed(scene, take, typed("why", "one")[1])


@pytest.mark.remedy("RESUME_MEMORY")
def test_out_of_memory_where_none_is_set_that_could_be_raised(scene, typed, take):
    begun(scene)
    killed(scene, KILLED_BY_SLURM)
    assert scene.state() == "held"
    code, _, _ = take(remedies.RESUME_MEMORY, scene.run()["reason"], run="one", choose={"MEBIBYTES": "4000"})
    assert code == 0
    assert completes(scene)
    assert scene.job().request.resources["memory_mb"] == 4000


@pytest.mark.remedy("RESUME_MEMORY")
def test_out_of_memory_too_often(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, out_of_memory_retries=1)
    scene.enter("one", memory_mb=100)
    for _ in range(2):
        scene.reach(5)
        killed(scene, KILLED_BY_SLURM)
    assert scene.state() == "held"
    code, _, _ = take(remedies.RESUME_MEMORY, typed("why", "one")[1], run="one", choose={"MEBIBYTES": "4000"})
    assert code == 0
    assert completes(scene)
    assert scene.job().request.resources["memory_mb"] == 4000


@pytest.mark.remedy("RESUME_RUN")
def test_a_submission_that_is_refused_in_a_pass_names_each_run(scene, typed, take):
    begun(scene, "one", "two")
    for name in ("one", "two"):
        scene.cluster.kill(scene.job(name).id)
    scene.cluster.submit_faults.append("refused")
    scene.go(120)
    assert (scene.state("one"), scene.state("two")) == ("held", "held")
    for name in ("two", "one"):
        code, _, _ = take(remedies.RESUME_RUN, scene.run(name)["reason"], run=name)
        assert code == 0
    assert completes(scene, "two")
    assert scene.state("one") == "completed"


@pytest.mark.remedy("RESUME_RUN")
def test_replays_that_used_up_its_reservation(tmp_path, monkeypatch, typed, take):
    toml = TOML + "\n[budget]\nrenew = false\n"
    scene = typed_scene(tmp_path, monkeypatch, toml=toml, budget={"renew": False})
    scene.enter("one")
    for _ in range(2):
        scene.cluster.fail_node(scene.reach(3).id)  # Slurm starts the job again
    scene.go(200)
    assert scene.state() == "held"
    shown = typed("why", "one")[1]
    assert "renew = false" in shown
    resumed(scene, take, shown)


@pytest.mark.remedy("BUDGET_SET")
def test_a_limit_that_is_too_low_for_what_is_left_of_it(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, budget={"limit": 10**6})
    begun(scene)
    assert typed("budget", "set", "700")[0] == 0
    scene.bind(limit=700)
    scene.cluster.kill(scene.job().id)
    scene.go(60)
    assert scene.state() == "held"
    _, shown, _ = typed("why", "one")
    scene.bind(limit=10**6)
    code, _, err = take(remedies.BUDGET_SET, shown, choose={"FLOPS": "1e6", "REASON": "it is worth it"})
    assert code == 0, err
    assert completes(scene)


@pytest.mark.remedy("CANCEL", "RESUME_RUN")
def test_runs_of_which_a_ledger_that_is_made_anew_knows_little(scene, typed, take, monkeypatch):
    monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda _study, _profile: scene.shown)
    monkeypatch.setattr("lvjobs.control.recovery.recover.rates_of", lambda _config: {"official": {"training": 100}})
    for name in ("one", "two"):
        scene.worker.failing[name] = 3
    begun(scene, "one", "two", taken=1)
    scene.go(60)
    scene.worker.failing.clear()
    for path in (scene.study.layout.ledger_log, *scene.study.layout.submissions.glob("*")):
        path.unlink()
    scene.study.layout.database.unlink()
    for path in scene.study.layout.checkpoints.glob("*/*.jsonl"):
        path.unlink()  # of a release that knew of no claims
    typed("ledger", "rebuild")
    assert (scene.state("one"), scene.state("two")) == ("held", "held")
    _, shown, _ = typed("why", "two")
    code, _, _ = take(remedies.CANCEL, shown, run="two")
    assert code == 0
    assert scene.state("two") == "cancelled"
    code, _, _ = take(remedies.RESUME_RUN, typed("why", "one")[1], run="one")
    assert code == 0
    assert scene.state("one") in ("queued", "interrupted", "running")


@pytest.mark.remedy("CANCEL")
def test_a_run_that_is_no_longer_wanted(scene, typed, take):
    begun(scene)
    code, _, _ = take(remedies.CANCEL, typed("why", "one")[1], run="one")
    assert code == 0
    scene.go(60)
    assert scene.state() == "cancelled"
    assert scene.alive() == []
    assert scene.money()[1] == 0, "what was reserved for it is free"


# -- its files ------------------------------------------------------------------------------------------------------


def edit(path, **changes):
    content = json.loads(path.read_text())
    content["config"] |= changes
    path.write_text(json.dumps(content))


@pytest.mark.remedy("RESUME_RUN")
@pytest.mark.parametrize("harm", ["edited", "torn", "gone"])
def test_its_configuration_in_run_json(scene, typed, take, harm):
    failed(scene)
    path = scene.files().config
    whole = path.read_text()
    if harm == "edited":
        edit(path, steps=7)
    elif harm == "torn":
        path.write_text(whole[:40])
    else:
        path.unlink()
    try:
        Submission(scene.files(), "").read_run()
    except RunRefused as refused:
        shown = str(refused)
    if harm == "gone":
        _, shown, _ = typed("ledger", "check")
    resumed(scene, take, shown)
    assert path.read_text() == whole
    assert typed("ledger", "check")[0] == 0


@pytest.mark.remedy("RESUME_RUN")
@pytest.mark.parametrize("state", ["completed", "cancelled"])
@pytest.mark.parametrize("harm", ["edited", "refingered", "torn", "gone"])
def test_the_configuration_of_a_run_that_is_over(scene, typed, take, state, harm):
    """No submission will write its run.json again."""
    begun(scene)
    if state == "cancelled":
        typed("cancel", "one")
    completes(scene)
    assert scene.state() == state
    path = scene.files().config
    whole = path.read_text()
    if harm == "edited":
        edit(path, steps=7)
    elif harm == "refingered":
        path.write_text(json.dumps({**json.loads(whole), "fingerprint": "0" * 16}))
    elif harm == "torn":
        path.write_text(whole[:40])
    else:
        path.unlink()
    code, shown, _ = typed("ledger", "check")
    assert code == 1
    assert "no job will train it" not in shown
    code, shown, _ = take(remedies.RESUME_RUN, shown, run="one")
    assert code == 0
    assert f"one: is {state}; run.json is written again" in shown
    assert path.read_text() == whole
    assert typed("ledger", "check")[0] == 0
    assert scene.state() == state
    refused = {"completed": "; it cannot be resumed", "cancelled": " and cannot be resumed; to submit it again:"}
    assert f"one: is {state}{refused[state]}" in typed("resume", "one")[1]


@pytest.mark.remedy("RESUME_RUN")
def test_the_configuration_of_a_run_of_a_study_elsewhere(tmp_path, monkeypatch, scene, typed, take):
    begun(scene)
    assert completes(scene)
    scene.files().config.unlink()
    monkeypatch.chdir("/")
    there = ("--study", str(scene.root))
    _, shown, _ = typed("ledger", "check", *there)
    assert take(remedies.RESUME_RUN, shown, *there, run="one")[0] == 0
    assert typed("ledger", "check", *there)[0] == 0


def test_a_directory_that_is_gone_is_not_made_again_for_a_run_that_is_over(scene, typed):
    begun(scene)
    assert completes(scene)
    shutil.rmtree(scene.files().root)
    assert typed("resume", "one")[0] == 0
    assert not scene.files().root.exists()


def test_a_submission_puts_run_json_back_where_nobody_types_anything(scene):
    begun(scene)
    edit(scene.files().config, steps=7)
    scene.cluster.kill(scene.job().id)
    assert completes(scene)
    assert RunFile.model_validate_json(scene.files().config.read_text()).config.steps == 12


def test_a_directory_of_another_run_is_not_written_to(scene):
    """As where the user moved directories about."""
    failed(scene)
    content = json.loads(scene.files().config.read_text())
    scene.files().config.write_text(json.dumps({**content, "id": "0" * 8, "name": "another"}))
    before = scene.files().config.read_text()
    scene.resume_runs("one")
    scene.make_pass()
    assert scene.files().config.read_text() == before


@pytest.mark.remedy("RESUME")
def test_what_workers_are_told_is_gone(scene, typed, take):
    """The allowance of a run with a job, and the mark of a submission that may train it no more."""
    begun(scene, "one", "two")
    revoked = scene.job("two").request.token
    scene.cluster.silent = True  # the job is not seen off
    typed("cancel", "two")
    token = scene.job().request.token
    known = [scene.orders_for(revoked, "two"), scene.orders_for(token)]
    scene.study.layout.submission(token).unlink()
    scene.study.layout.submission(revoked).unlink(missing_ok=True)
    code, shown, _ = typed("ledger", "check")
    assert code == 1
    code, out, _ = take(remedies.RESUME, shown)
    assert code == 0
    assert out.count("was written again") == 1, "one file for both"
    assert [scene.orders_for(revoked, "two"), scene.orders_for(token)] == known
    assert typed("ledger", "check")[0] == 0


@pytest.mark.remedy("PROFILE_BACK", "RESUME_RUN")
def test_the_file_of_its_profile_is_gone(tmp_path, monkeypatch, typed, take):
    profile = tmp_path / "mine.sh.j2"
    profile.write_text(templates.shipped("lab").read_text())
    scene = typed_scene(tmp_path, monkeypatch, toml=PRICED.replace('"lab"', f'"{profile}"'))
    code, _, err = typed("submit", "run", "--name", "one")
    assert code == 0, err
    scene.worker.failing["one"] = 3
    scene.go(60)
    assert scene.state() == "held"
    scene.worker.failing.clear()
    profile.unlink()
    code, _, shown = typed("resume", "one")
    assert code == 2
    (kept,) = scene.study.layout.internal.glob("profiles/*/*")
    code, _, _ = take(remedies.PROFILE_BACK, shown, copy=kept, profile=profile)
    assert code == 0
    resumed(scene, take, shown)


# -- the queue, and the next pass ------------------------------------------------------------------------------------


@pytest.mark.remedy("RESUME")
@pytest.mark.parametrize("faults", [["deferred", "deferred"], ["vanished"]], ids=lambda faults: faults[0])
def test_the_scheduler_does_not_take_a_job(scene, typed, take, faults):
    scene.cluster.submit_faults.extend(faults)
    code, shown, err = typed("submit", "run", "--name", "one")
    assert code == 0, err
    assert scene.state() in ("planned", "submitting")
    scene.cluster.advance(60)
    code, _, _ = take(remedies.RESUME, shown)
    assert code == 0
    assert completes(scene)


@pytest.mark.remedy("QUEUE")
def test_a_job_that_waits_in_the_queue(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, toml=PRICED, manners=Manners(slots=1), steps=200)
    begun(scene, "other")
    code, _, err = typed("submit", "run", "--name", "one", "--time-limit", "60m")
    assert code == 0, err
    _, shown, _ = typed("why", "one")
    code, out, _ = take(remedies.QUEUE, shown, run="one")
    assert code == 0
    assert "would start" in out


@pytest.mark.remedy("WHY")
def test_a_run_that_has_no_log_yet(scene, typed, take):
    begun(scene)
    code, _, shown = typed("logs", "one")
    assert code == 2
    code, out, _ = take(remedies.WHY, shown, run="one")
    assert code == 0
    assert "running on" in out


@pytest.mark.remedy("WHY")
def test_a_notice_of_what_is_held(scene, typed, take):
    failed(scene)
    with scene.session() as session, session.ledger.transaction() as transaction:
        notice, _ = due(NoticeRecord(), transaction.runs(), transaction.stages(), scene.clock())
    code, out, _ = take(remedies.WHY, notice.text, run="one")
    assert code == 0
    assert "no such thing" in out


@pytest.mark.remedy("RESUME_RUN")
@pytest.mark.parametrize("what", ["checkpoint", "final weights"])
def test_a_disk_that_was_full(scene, typed, take, monkeypatch, what):
    """The worker's own words, as `lvjobs why` shows them."""
    begun(scene, taken=1)
    files, checkpoint = scene.files(), CheckpointName(1, 4)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(LvjobsError, match="No space left") as full:
        if what == "checkpoint":
            patched.setattr(Path, "rename", refuse)
            write_checkpoint(files, checkpoint, {"step": 4}, {})
        else:
            patched.setattr("lvjobs.worker.saved_files.copy_saved", refuse)
            manifest = Manifest(1, 4, {"model/weights.npy": "0" * 64})
            publish_final(files, 1, Checkpoint(checkpoint, files.steps / str(checkpoint), manifest))
    scene.worker.failing["one"], scene.worker.said["one"] = 5, str(full.value)
    scene.go(60)
    scene.worker.failing.clear()
    assert scene.state() == "held"
    shown = typed("why", "one")[1]
    assert scene.run()["reason"].count("lvjobs resume") == 1
    resumed(scene, take, shown)


def test_resume_with_a_partition_is_refused_on_the_local_profile(tmp_path, monkeypatch, typed):
    scene = typed_scene(tmp_path, monkeypatch, toml=TOML.replace('"lab"', '"local"'))
    failed(scene)
    before = scene.dump()
    code, _, err = typed("resume", "one", "--partition", "low")
    assert code == 2
    assert "partition has no effect with profile local" in err
    assert scene.dump() == before
