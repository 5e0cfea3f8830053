"""A final run that continues its stage's winner on real Slurm: preempted and killed, it ends with the same bits."""

import pytest
from driving import Study, kill_worker, until

from lvjobs.study.layout import RunLayout

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FIRST = """
[[stage]]
name = "first"
steps = {steps}
set = {{ checkpoint_every = 20 }}
grid = {{ {key} = {values} }}
"""
FINAL = """
[[stage]]
name = "final"
from = "first"
steps = {steps}
set = {{ checkpoint_every = 40 }}
continue = true
"""


def declare(study, text, *replaced):
    path = study.root / "study.toml"
    toml = path.read_text()
    for old, new in replaced:
        assert old in toml
        toml = toml.replace(old, new)
    path.write_text(toml + text)


def only(study, stage):
    """Return the row of a stage's only run."""
    (run,) = (run for run in study.runs().values() if run["stage"] == stage)
    return run


def finish(study):
    """Make passes until the final run is completed; return its row."""
    until(lambda: study.runs() and study.stands()["final"] == "completed", 600)
    return only(study, "final")


def disturb(study, lab, *, begins):
    """Preempt the final run before its first checkpoint, and kill it after that; return its row once it is completed."""
    study.gate("any", begins + 10)
    study.gate("any", begins + 70, generation=2)
    study.type("sweep", "all")
    until(lambda: any(run["stage"] == "final" for run in study.runs().values()), 300)
    name = only(study, "final")["name"]
    until(lambda: study.is_at_gate("any", begins + 10), 300)
    lab.preempt(study.claims(name)[0]["job_id"])  # a worker that is asked to leave waits no longer
    until(lambda: study.runs() and study.is_at_gate("any", begins + 70, generation=2), 300)
    kill_worker(study.claims(name)[1])
    study.open_gates("any")
    return finish(study)


def check_steps(study, name, begins, steps):
    """The steps before are the winner's; those that were lost are the only ones that were executed again."""
    executed = study.executed(name)
    assert sorted(set(executed)) == list(range(begins + 1, steps + 1))
    run = study.run(name)
    assert run["executed_steps"] == len(executed)
    assert run["executed_steps"] - run["replayed_steps"] == steps - begins
    assert len(study.claims(name)) == 3
    assert "fine: runs.db is intact" in study.type("ledger", "check")


def test_a_function_preempted_and_killed(study: Study, lab, tmp_path):
    stages = FIRST.format(steps=60, key="learning_rate", values=[1e-3, 4e-3]) + FINAL.format(steps=200)
    constant = ("width = 4\n", "width = 4\nconstant = true\n")
    alone = Study(tmp_path / "alone", profile="local")
    for each in (alone, study):
        declare(each, stages, constant)
    alone.type("sweep", "all", "--wait", timeout=1200)
    winner = next(stage["winner"] for stage in alone.summary()["stages"] if stage["name"] == "first")
    rate = 4e-3 if "0.004" in winner else 1e-3
    whole = ("submit", "run", "--name", "whole", "--steps", "200", "--set", f"learning_rate={rate}")
    alone.type(*whole, "--wait", timeout=1200)
    run = disturb(study, lab, begins=60)
    assert study.weights(run["name"]) == alone.weights(only(alone, "final")["name"]) == alone.weights("whole")
    check_steps(study, run["name"], 60, 200)


@pytest.mark.heavy
@pytest.mark.timeout(3000)
def test_the_bundled_training_with_wsd_preempted_and_killed(tmp_path, series, lab):
    """The winner's rate has decayed at its end, so that its checkpoint of the stable phase is the one to continue."""
    stages = FIRST.format(steps=50, key="context_length", values=[48, 64]) + FINAL.format(steps=160)
    wsd = ('schedule = "cosine"\n', 'schedule = "wsd"\nwarmup_steps = 5\n')
    study, alone = Study(tmp_path / "study", series), Study(tmp_path / "alone", series, profile="local")
    for each in (alone, study):
        declare(each, stages, wsd)
    alone.type("sweep", "all", "--wait", timeout=2400)
    winner = next(stage["winner"] for stage in alone.summary()["stages"] if stage["name"] == "first")
    length = "48" if "-c48-" in winner else "64"
    alone.type(
        "submit", "train", "--name", "whole", "--steps", "160", "--context-length", length, "--wait", timeout=2400
    )
    run = disturb(study, lab, begins=45)
    assert study.weights(run["name"]) == alone.weights(only(alone, "final")["name"]) == alone.weights("whole")
    check_steps(study, run["name"], 45, 160)
    assert "000001-00000045.safetensors" in {path.name for path in RunLayout(study.files(winner)).steps.iterdir()}
