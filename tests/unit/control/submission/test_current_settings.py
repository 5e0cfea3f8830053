"""The settings of a resumed run's job: the settings as they are now."""

import json
from dataclasses import replace

import pytest
from control_builders import a_run, an_attempt
from control_scenes import EVERY, Scene, begun, check, make_haste

from lvjobs.cluster.protocol import SubmitRefused
from lvjobs.control.budget.charges import unseen_steps
from lvjobs.control.recovery.check import check as check_ledger
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest, declare, file_of
from lvjobs.errors import UsageError
from lvjobs.study.params import EVALUATE_TASK, TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig, RunFile, with_values
from lvjobs.study.settings import OwnSettings
from lvjobs.study.tables import Resources
from lvjobs.study.words import Cause
from lvjobs.sweep.request import Request
from lvjobs.worker.submission import Submission


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return Scene(tmp_path, backoff_seconds=1, no_progress_deaths=1)


def edit(scene, *, train=None, profile=None, **resources):
    """Write other values into study.toml."""
    changes = {"resources": Resources(**{**scene.study.config.resources.model_dump(), **resources})}
    if train is not None:
        changes["train"] = OwnSettings(task="toy_task:train", **train)
    if profile is not None:
        changes["profile"] = profile
    scene.study = replace(scene.study, config=scene.study.config.model_copy(update=changes))


def hold(scene, **typed):
    """A run that is held after a failure. `typed` is what the user typed as it was submitted."""
    file = scene.study.config.resources.model_dump()
    scene.enter("one", **{key: value for key, value in {**file, **typed}.items() if value not in (None, {})})
    scene.cluster.kill(scene.reach(2).id)
    scene.make_pass()
    assert scene.state() == "held"


def requested(scene):
    return {key: value for key, value in scene.job().request.resources.items() if value is not None}


def test_resume_uses_current_resources(scene):
    edit(scene, memory_mb=100, modules=["gcc"], exclude_nodes=["n1"])
    hold(scene)
    edit(scene, gpus=2, cpus=3, modules=["gcc", "cuda"], exclude_nodes=None, extra_sbatch=["--constraint=a"])
    (told,) = scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {
        "memory_mb": 100,
        "gpus": 2,
        "cpus": 3,
        "modules": ["gcc", "cuda"],
        "extra_sbatch": ["--constraint=a"],
    }
    assert "gpus unset -> 2" in told
    assert "exclude_nodes ['n1'] -> unset" in told


def test_what_was_typed_counts_until_study_toml_is_changed(scene):
    edit(scene, partition="a", memory_mb=100)
    hold(scene, partition="typed", memory_mb=300)
    edit(scene, memory_mb=200)
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"partition": "typed", "memory_mb": 200}


def test_what_is_typed_at_resume_counts_over_both_and_is_kept(scene):
    edit(scene, partition="a")
    hold(scene, partition="typed")
    scene.resume_runs("one", partition="b", memory_mb=50)
    scene.make_pass()
    assert requested(scene) == {"partition": "b", "memory_mb": 50}
    scene.cluster.kill(scene.reach(2).id)
    scene.make_pass()
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"partition": "b", "memory_mb": 50}


def test_another_number_of_processes_is_recorded_and_ends_the_promise_of_the_same_bits(scene):
    scene.enter("one")
    scene.cluster.kill(scene.reach(EVERY + 1).id)
    scene.make_pass()
    assert scene.state() == "interrupted"
    scene.cluster.kill(scene.reach(0).id)
    scene.make_pass()
    edit(scene, processes=2)
    assert "processes unset -> 2" in scene.resume_runs("one")[0]
    scene.go(60)
    found = [each.what for each in check_ledger(scene.study, 5).findings]
    assert any("continued with processes 2, where attempt 1 had processes 1" in what for what in found)


def test_a_run_that_fails_is_submitted_again_with_what_was_last_submitted(scene):
    edit(scene, memory_mb=100)
    scene.enter("one", memory_mb=100)
    scene.reach(EVERY)
    edit(scene, memory_mb=900)
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 100}


def test_memory_that_was_raised_stays_raised_until_study_toml_says_otherwise(scene):
    edit(scene, memory_mb=100)
    scene.enter("one", memory_mb=100)
    scene.reach(EVERY)
    log = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM.\n"
    )
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 150}
    scene.cluster.kill(scene.reach(0).id)
    scene.make_pass()
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 150}
    scene.cluster.kill(scene.reach(0).id)
    scene.make_pass()
    edit(scene, memory_mb=400)
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 400}


def test_a_run_that_the_site_refused_is_submitted_with_current_resources(scene, monkeypatch):
    edit(scene, partition="nowhere")
    scene.enter("one", partition="nowhere")
    scene.cluster.kill(scene.reach(EVERY).id)
    taken = scene.cluster.submit

    def refuse(request):
        if request.resources.get("partition") == "nowhere":
            raise SubmitRefused("invalid partition")
        return taken(request)

    scene.cluster.submit = refuse
    scene.make_pass()
    assert scene.state() == "held"
    edit(scene, partition="there")
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"partition": "there"}


def test_a_run_held_for_flops_goes_on_with_current_resources(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = Scene(tmp_path, budget={"limit": 10**6})
    edit(scene, memory_mb=100)
    scene = begun(scene, taken=EVERY)
    scene.bind(limit=500)
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert scene.state() == "held"
    scene.bind(limit=10**6)
    edit(scene, memory_mb=700)
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 700}


def freed(tmp_path, monkeypatch):
    """Return a study whose run was held for FLOPs, and whose limit has just been raised."""
    make_haste(monkeypatch)
    scene = Scene(tmp_path, budget={"limit": 10**6})
    scene = begun(scene, taken=EVERY)
    scene.bind(limit=500)
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    scene.bind(limit=10**6)
    return scene


def test_a_run_held_for_flops_goes_on_as_it_was_where_current_resources_do_not_fit_it_and_a_pass_reports_that(
    tmp_path, monkeypatch
):
    scene = freed(tmp_path, monkeypatch)
    edit(scene, memory_mb=700, pack=2, side_by_side=2, processes=2)
    told = scene.one_pass()
    (line,) = [line for line in told if "side_by_side" in line]
    assert line.startswith("one: keeps the settings of its last submission, because those of study.toml do not fit: ")
    assert requested(scene) == {}
    assert any("side_by_side" in row["text"] for row in scene.rows("events"))
    assert not [line for line in scene.make_pass() if "side_by_side" in line], "it is reported once"


def test_a_run_held_for_flops_whose_profile_is_gone_says_how_to_have_it_back(tmp_path, monkeypatch):
    scene = freed(tmp_path, monkeypatch)
    edit(scene, profile=str(tmp_path / "gone.sh.j2"))
    (line,) = [line for line in scene.one_pass() if "gone.sh.j2" in line]
    assert "cannot be read" in line
    assert "stays held" not in line, "it goes on"


def test_of_runs_that_differ_in_their_checkpoint_interval_the_one_that_is_asked_for_is_found(scene):
    def wanted(name, every, **more):
        config = RunConfig(task="toy_task:train", steps=scene.steps, checkpoint_every=every)
        return RunRequest([config], [name], "train", "lab", Resources(), **more)

    for name, every in (("first", EVERY), ("second", EVERY + 2)):
        with scene.session() as session:
            enter(session, wanted(name, every))
    with scene.session() as session, session.ledger.transaction() as transaction:
        declared = declare(transaction, wanted("third", EVERY + 2, is_named=False))
    assert [run.name for run in declared.existing] == ["second"]
    assert declared.new == []


def test_current_resources_that_do_not_fit_the_run_are_refused_with_nothing_changed(scene):
    hold(scene)
    edit(scene, pack=2, side_by_side=2, processes=2)
    before = scene.dump()
    with pytest.raises(UsageError, match="side_by_side"):
        scene.resume_runs("one")
    assert scene.dump() == before


def test_a_shorter_checkpoint_interval_is_the_same_run_with_a_reservation_of_its_own(scene):
    hold(scene)
    steps, before = scene.steps, scene.rows("reservations")[0]["training"]
    old = RunFile.model_validate_json(scene.files().config.read_text())
    edit(scene, train={"checkpoint_every": 2, "keep_last": 1})
    (told,) = scene.resume_runs("one")
    scene.make_pass()
    assert f"checkpoint_every {EVERY} -> 2" in told
    taken = Submission(scene.files(), scene.job().request.token).read_run()
    new = RunFile.model_validate_json(scene.files().config.read_text())
    assert (new.config.checkpoint_every, new.config.keep_last) == (2, 1)
    assert new.config.validate_every == old.config.validate_every
    assert (new.id, new.fingerprint) == (old.id, old.fingerprint)
    assert taken == new.config, "a worker takes it for the run that was declared"
    assert before == steps + EVERY
    (reserved,) = scene.rows("reservations")
    (spent,) = [row["units"] for row in scene.rows("charges")]
    assert reserved["training"] == spent + steps + 2
    scene.go(60)
    assert scene.state() == "completed"
    check(scene)


def test_a_run_whose_interval_was_changed_by_hand_is_refused_by_the_worker(scene):
    hold(scene)
    text = json.loads(scene.files().config.read_text())
    scene.files().config.write_text(json.dumps({**text, "config": {**text["config"], "checkpoint_every": 1}}))
    with pytest.raises(Exception, match="edited after it was declared"):
        Submission(scene.files(), "").read_run()


def config_of(scene, **changes):
    (config,) = scene.wanted("one").configs
    return with_values(config.model_dump(mode="json"), changes)


@pytest.mark.parametrize("changes", [
    {"checkpoint_every": 2},
    {"checkpoint_every": 2, "keep_last": 1},
    {"keep_last": 5},
])  # fmt: skip
def test_the_same_settings_with_another_interval_are_the_run_that_is_there(scene, changes):
    scene.enter("one")
    with scene.session() as session:
        wanted = RunRequest([config_of(scene, **changes)], ["other"], "train", "lab", Resources(), is_named=False)
        assert [run.name for run in enter(session, wanted).existing] == ["one"]


def test_validation_with_each_checkpoint_is_one_setting_whatever_the_interval():
    made = [RunConfig(task="a:b", steps=9, checkpoint_every=every, validate_every=every) for every in (2, 3)]
    assert made[0].identity == made[1].identity
    assert made[0].fingerprint != made[1].fingerprint
    other = with_values(made[0].model_dump(), {"validate_every": 3})
    assert other.identity != made[0].identity
    assert other.identity in made[1].identities


def test_cells_that_differ_in_their_interval_alone_are_all_trained(scene):
    configs = [config_of(scene, checkpoint_every=every, validate_every=every) for every in (2, 3)]
    with scene.session() as session:
        wanted = RunRequest(configs, ["a", "b"], "train", "lab", Resources(), is_named=False)
        assert len(enter(session, wanted).new) == 2
        with session.ledger.transaction() as transaction:
            again = declare(transaction, wanted)
            assert [run.name for run in again.existing] == ["a", "b"]


@pytest.mark.parametrize(("kept", "unseen"), [(2, 1), (10, 7), (None, 17)])
def test_an_unseen_attempt_is_charged_up_to_the_next_checkpoint_of_its_own_interval(kept, unseen):
    """Of an attempt that does not say it, the longest interval that the run has had is an upper bound."""
    run = a_run(config={"steps": 100, "checkpoint_every": 5}, declared={"checkpoint_every": 20})
    attempt = an_attempt(step=3, executed=3, cause=Cause.NODE_FAIL, checkpoint_every=kept)
    assert unseen_steps(run, attempt) == unseen


def test_the_same_data_elsewhere_are_the_same_run():
    """For a training and for an evaluation of one; data whose hash is not known are known by their path."""
    training = TrainingConfig(data="/a/d.h5", data_sha256="5ha").model_dump(mode="json")
    for task, wrap in ((TRAIN_TASK, dict), (EVALUATE_TASK, lambda params: {"training": params, "systems": [1]})):
        here, there, other = (
            RunConfig(task=task, steps=9, params=wrap({**training, **changes}))
            for changes in ({}, {"data": "/b/d.h5"}, {"data_sha256": "0ther"})
        )
        assert here.fingerprint != there.fingerprint
        assert here.identity == there.identity != other.identity
    own = [RunConfig(task="a:b", steps=9, params={"data": name, "data_sha256": "5ha"}) for name in ("a", "b")]
    assert own[0].identity != own[1].identity, "the params of a task of one's own are opaque"


def test_what_a_stage_requested_is_compared_with_what_study_toml_said_then(scene):
    """A stage may begin long after it was requested: what was not typed is not taken for typed."""
    edit(scene, memory_mb=100)
    then = file_of(scene.study, "train")
    edit(scene, memory_mb=200)
    with scene.session() as session:
        wanted = RunRequest([config_of(scene)], ["one"], "train", "lab", Resources(memory_mb=100), file=then)
        enter(session, wanted)
    scene.cluster.kill(scene.reach(2).id)
    scene.make_pass()
    scene.resume_runs("one")
    scene.make_pass()
    assert requested(scene) == {"memory_mb": 200}


def test_a_stage_requested_with_another_interval_is_the_same_stage():
    train = {"data": "/d.h5", "checkpoint_every": 250, "learning_rate": 1e-5}
    first = Request(train=train)
    assert first.trains_as(Request(train={**train, "checkpoint_every": 50, "keep_last": 1}))
    assert not first.trains_as(Request(train={**train, "learning_rate": 1e-4}))


def test_a_time_limit_that_is_typed_ends_the_computed_one_and_auto_ends_a_typed_one(scene):
    edit(scene, time_limit="auto", cpus=2)
    hold(scene)
    (told,) = scene.resume_runs("one", time_limit="30m")
    assert json.loads(scene.run()["resources"]) == {"time_limit_minutes": 30, "cpus": 2}
    assert "-> 30" in told
    scene.cluster.kill(scene.reach(0).id)
    scene.make_pass()
    scene.resume_runs("one", time_limit="auto")
    assert json.loads(scene.run()["resources"]) == {"time_limit": "auto", "cpus": 2}
