"""Claims: unique, consecutive, whoever races."""

import json
import multiprocessing

import pytest

from lvjobs.errors import RunRefused, Superseded
from lvjobs.records.run_files import Claim
from lvjobs.study.layout import RunLayout
from lvjobs.worker.environment import JobEnvironment, read_environment
from lvjobs.worker.generation import check_fence, claim_generation, is_superseded, newest_generation


def _claim_some(root, start, results):
    start.wait()
    environment = JobEnvironment("local", "t", "1")
    results.put([claim_generation(RunLayout(root), environment).generation for _ in range(15)])


def test_claims_of_many_processes_are_unique_and_consecutive(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_claim_some, args=(tmp_path, start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    claimed = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(number for each in claimed for number in each) == list(range(1, 61))
    assert all(each == sorted(each) for each in claimed)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:06d}.jsonl" for n in range(1, 61)]


def test_what_a_claim_says(tmp_path):
    layout = RunLayout(tmp_path)
    environment = read_environment(
        {"LVJOBS_BACKEND": "slurm", "LVJOBS_TOKEN": "abc", "SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2"}
    )
    claim = claim_generation(layout, environment)
    assert Claim.read(layout.generation(1)) == claim
    assert (claim.token, claim.job_id, claim.restart_count) == ("abc", "12", 2)
    assert json.loads(layout.generation(1).read_text())["pid"] > 0


def test_the_fence(tmp_path):
    layout = RunLayout(tmp_path)
    assert newest_generation(layout) == 0
    environment = JobEnvironment("local", "", "1")
    claim_generation(layout, environment)
    (layout.generations / ".000009.host.1.claim").touch()  # somebody is about to claim
    check_fence(layout, 1)
    assert not is_superseded(layout, 1)
    claim_generation(layout, environment)
    with pytest.raises(Superseded, match="generation 2"):
        check_fence(layout, 1)
    check_fence(layout, 2)


def test_slurm_environment():
    environ = {
        "LVJOBS_BACKEND": "slurm",
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_JOB_ID": "5",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_JOB_START_TIME": "1000",
        "SLURM_JOB_END_TIME": "4600",
        "LVJOBS_PREEMPT_MODE": "CANCEL",
        "LVJOBS_CANCEL_FILE": "/not/on/slurm",
    }
    found = read_environment(environ)
    assert (found.job_id, found.restart_count, found.end_time, found.lead_seconds) == ("5_0", 0, 4600.0, 90.0)
    assert (found.preempt_mode, found.cancel_file) == ("cancel", None)
    assert read_environment(environ | {"LVJOBS_END_TIME": "4000", "LVJOBS_LEAD_SECONDS": "0"}).end_time == 4000.0
    assert read_environment(environ | {"LVJOBS_LEAD_SECONDS": "0"}).lead_seconds == 0.0


def test_local_environment_is_blind_to_slurm():
    found = read_environment({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "3", "SLURM_JOB_END_TIME": "9"})
    assert (found.backend, found.restart_count, found.end_time) == ("local", 0, None)
    assert found.job_id.startswith("local.")
    assert read_environment({"LVJOBS_BACKEND": "local", "LVJOBS_JOB_ID": "x1"}).job_id == "x1"


@pytest.mark.parametrize(
    "environ", [{"LVJOBS_BACKEND": "pbs"}, {"LVJOBS_BACKEND": "slurm"}, {"LVJOBS_LEAD_SECONDS": "soon"}]
)
def test_an_environment_that_contradicts_itself(environ):
    with pytest.raises(RunRefused):
        read_environment(environ)
