"""`lvjobs submit ... --continue RUN`, typed in a study that trains on this machine."""

import json
import shutil

import pytest
from driving import Study, until

import lvjobs

pytestmark = pytest.mark.slow
SHORT = ("--steps", "20", "--checkpoint-every", "10", "--set", "constant=true", "--set", "seconds=0.0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study with a run of 20 steps, and one of 40 with the same settings."""
    study = Study(tmp_path_factory.mktemp("trained"), profile="local")
    toml = study.root / "study.toml"
    toml.write_text(toml.read_text().replace("seconds = 0.005\n", "seconds = 0.005\nconstant = false\n"))
    for name, steps in (("short", "20"), ("long", "40")):
        study.type("submit", "run", "--name", name, *SHORT, "--steps", steps, "--wait")
    return study


@pytest.fixture
def study(trained, tmp_path):
    root = tmp_path / "study"
    shutil.copytree(trained.root, root)
    copy = Study(tmp_path / "empty", profile="local")
    copy.root = root
    copy.type("study", "moved")
    return copy


def test_a_run_is_trained_on(study):
    said = study.type("submit", "run", "--continue", "short", "--name", "more", "--steps", "40", "--wait")
    assert (
        "note: continues short from step 20 of 20: 20 steps to train; both together are not one run of 40 steps, because lvjobs does not know what its learning rate does"
        in said
    )
    assert study.executed("more") == list(range(21, 41))
    assert study.weights("more") == study.weights("long")
    run = study.run("more")
    assert (run["executed_steps"], run["replayed_steps"], run["steps"]) == (20, 0, 40)
    shown = study.type("show", "more")
    assert "continued by  more" in study.type("show", "short")
    assert "continues    short, from its checkpoint of step 20" in shown
    assert "declared, 40 steps from step 20 of short on" in study.type("status", "more")
    assert "fine: runs.db is intact" in study.type("ledger", "check")
    again = study.type("submit", "run", "--continue", "short", "--name", "more", "--steps", "40")
    assert "more: already exists (completed); not submitted again" in again


def test_its_cost_is_that_of_the_new_steps(study):
    def flops(*words):
        preview = json.loads(study.type("submit", "run", *words, "--dry-run", "--json"))
        (stage,) = preview["estimate"]["stages"]
        return stage["steps"], stage["training"]["official"], stage["windows"]

    assert "# note: continues short from step 20" in study.type(
        "submit", "run", "--continue", "short", "--steps", "50", "--dry-run"
    )
    assert flops("--continue", "short", "--steps", "50") == (30, 30 * 10**6, 3)
    assert flops("--name", "whole", *SHORT, "--steps", "50") == (50, 50 * 10**6, 6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--steps", "20"), "steps = 20, and the run to continue has 20 already"),
        (("--steps", "40", "--seed", "5"), "seed = 5: a run that continues another continues its random numbers"),
        ((), "steps is not given, and short has 20: add --steps with more than that"),
        (
            ("other:task", "--steps", "40"),
            "--continue trains the task of the run that it names, with its settings; leave the task out",
        ),
    ],
)
def test_what_cannot_be_continued(study, words, says):
    said = study.type("submit", "run", "--continue", "short", *words, code=2)
    assert says in said
    assert [*study.runs()] == ["short", "long"]
    assert not (study.root / "checkpoints" / "more").exists()


def test_a_run_that_is_not_there_or_not_finished(study):
    assert "'*' names 2 runs (short, long ...); name one" in study.type(
        "submit", "run", "--continue", "*", "--steps", "40", code=2
    )
    assert "no run 'nobody'" in study.type("submit", "run", "--continue", "nobody", "--steps", "40", code=2)
    study.type("submit", "run", "--name", "slow", *SHORT, "--steps", "30", "--set", "seconds=60.0")
    said = study.type("submit", "run", "--continue", "slow", "--steps", "40", code=2)
    assert "only a completed run can be continued; wait until it is" in said
    study.type("cancel", "slow", "--yes")


def test_a_run_without_its_checkpoints(study):
    for path in study.files("short").glob("*.safetensors"):
        path.unlink()
    said = study.type("submit", "run", "--continue", "short", "--steps", "40", code=2)
    assert "short has no checkpoint up to step 20 that can be read" in said


def test_an_archived_run_is_to_be_unpacked(study):
    study.type("archive", "short")
    said = study.type("submit", "run", "--continue", "short", "--steps", "40", code=2)
    assert "short is archived; unpack it: lvjobs archive --unpack short" in said
    study.type("archive", "--unpack", "short")
    study.type("submit", "run", "--continue", "short", "--steps", "40", "--wait")


def test_a_checkpoint_that_is_damaged_before_the_first_step_holds_the_run(study):
    (path,) = study.files("short").glob("*-00000020.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    good = path.read_bytes()
    path.write_bytes(content)
    study.type("submit", "run", "--continue", "short", "--name", "more", "--steps", "40")
    study.until("more", "held")
    said = study.type("why", "more")
    assert "the checkpoint of step 20 of short, which this run continues, cannot be used" in said
    assert study.executed("more") == []
    path.write_bytes(good)
    study.type("resume", "more")
    study.until("more", "completed")
    assert study.weights("more") == study.weights("long")


def test_a_ledger_that_was_lost_knows_the_parent_again(study):
    study.type("submit", "run", "--continue", "short", "--name", "more", "--steps", "40", "--wait")
    before = study.type("show", "more")
    (study.root / "runs.db").unlink()
    study.type("ledger", "rebuild")
    after = study.type("show", "more")
    lines = [next(line for line in text.splitlines() if "continues" in line) for text in (before, after)]
    assert lines[0] == lines[1]


def test_by_the_api(study):
    opened = lvjobs.Study.open(study.root)
    submission = opened.submit({"steps": 40}, continues="short", name="more")
    assert submission.new == ["more"]
    until(lambda: study.run("more")["state"] == "completed")
    assert study.weights("more") == study.weights("long")
    (taken,) = (study.files("more") / "parent").iterdir()
    (original,) = study.files("short").glob("*-00000020.safetensors")
    assert taken.samefile(original), "a hard link"


PROGRAM = """\
import json, pathlib, sys
steps, out, state = int(sys.argv[1]), pathlib.Path(sys.argv[2]), {"step": 0, "begun": []}
if len(sys.argv) > 3:
    state = json.loads(pathlib.Path(sys.argv[3]).read_text())
state["begun"].append(state["step"] + 1)
for step in range(state["step"] + 1, steps + 1):
    print(f"step {step} loss {1 / step}", flush=True)
    if step % 5 == 0:
        (out / f"state-{step}.json").write_text(json.dumps({**state, "step": step}))
"""


OF_THE_PROGRAM = r"""
[train]
command = ["python", "prog.py", "{told}", "{{out}}"]
resume = ["{{checkpoint}}"]
checkpoint = "{{out}}/state-{{step}}.json"
progress = ['step (?P<step>\d+) loss (?P<loss>\S+)']
flops = 1e6
steps = 20
checkpoint_every = 5
"""


@pytest.mark.parametrize("told", ["{steps}", "20"])
def test_a_program_is_trained_on_if_it_is_told_the_steps(study, told):
    (study.root / "prog.py").write_text(PROGRAM)
    (study.root / "prog.toml").write_text(OF_THE_PROGRAM.format(told=told))
    study.type("submit", "run", "--config", "prog.toml", "--name", "first", "--wait")
    more = ("submit", "run", "--continue", "first", "--name", "second", "--steps", "30")
    if told == "20":
        assert "the command has no {steps}" in study.type(*more, code=2)
        return
    study.type(*more, "--wait")
    run = study.run("second")
    assert (run["state"], run["executed_steps"]) == ("completed", 10)
    (left,) = (study.files("second") / "final").rglob("state-30.json")
    assert json.loads(left.read_text()) == {"step": 30, "begun": [1, 21]}
