"""Several runs in one job of real Slurm: one wait in the queue, and whatever meets the job, each ends as if alone."""

import json

import pytest
from driving import Study, kill_worker, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STAGE = """
[[stage]]
name = "many"
steps = 400
set = { checkpoint_every = 100 }
grid = { learning_rate = [1e-3, 4e-3, 8e-3] }
"""


def declare(study):
    path = study.root / "study.toml"
    path.write_text(path.read_text() + STAGE)


def names(study):
    return [run["name"] for run in json.loads(study.type("status", "--json", "--no-pass"))["runs"]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The final weights of the same runs, each in a job of its own."""
    study = Study(tmp_path_factory.mktemp("alone"), profile="local")
    declare(study)
    study.type("sweep", "many", "--wait", timeout=900)
    return {name: study.weights(name) for name in names(study)}


@pytest.mark.parametrize(("kind", "side_by_side"), [("requeue", 2), ("cancel", 1)])
def test_a_job_that_runs_share_is_preempted_and_one_of_them_killed(
    study, lab_for, lab_configs, alone, kind, side_by_side, fault
):
    lab = lab_for(lab_configs[kind])
    declare(study)
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # until it is known what the runs are called
    try:
        said = study.type("sweep", "many", "--pack", "3", "--side-by-side", str(side_by_side))
        first, second, third = names(study)
        assert lab.run("squeue", "-h", "-r", "-o", "%i").split() == [study.run(first)["job_id"]], said
        study.gate(first, 120)
        study.gate(first, 250, generation=2)
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    claim = study.halt(first, 120)
    lab.preempt(claim["job_id"])
    kill_worker(study.halt(first, 250, generation=2))
    ended = {name: study.until(name, "completed", "held") for name in (first, second, third)}

    assert {name: study.weights(name) for name in ended} == alone
    jobs = {name: [claim["job_id"] for claim in study.claims(name)] for name in ended}
    assert jobs[first][:2] == [claim["job_id"]] * 2
    assert len(jobs[first]) == 3, "who was killed goes on in another job"
    assert jobs[first][2] != claim["job_id"]
    assert set(jobs[second] + jobs[third]) == {claim["job_id"]}, "the others stayed"
    for name in (second, third):
        assert study.executed(name) == list(range(1, 401)), "a step was lost, or executed twice"
    fault("pack", study, same_bits=True)


def test_scancel_of_a_shared_job_cancels_all_its_runs(study, lab):
    declare(study)
    study.gate("any", 120)
    study.type("sweep", "many", "--pack", "3")
    first, *waiting = names(study)
    until(lambda: study.is_at_gate("any", 120))
    job_id = study.claims(first)[0]["job_id"]
    assert {run["state"] for run in study.runs().values()} == {"running"}
    lab.run("scancel", job_id)
    until(lambda: not lab.run("squeue", "-h", "-o", "%i").strip())
    study.until(first, "cancelled", "completed", "held")
    for _ in range(3):
        ended = {(run["state"], run["cause"]) for run in study.runs().values()}
        assert ended == {("cancelled", "cancelled")}, study.story(waiting[0])
    assert lab.run("squeue", "-h", "-o", "%i").strip() == "", "an update submitted the waiting runs again"
    assert {known for known, _ in study.known_jobs()} == {job_id}
    assert [study.files(name).exists() for name in waiting] == [False, False]
