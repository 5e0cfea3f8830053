"""The promises of a backend to the loop."""

import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lvjobs
from lvjobs.cluster.protocol import SubmitRefused


def test_a_job_is_found_by_its_token(world):
    request = world.request(world.run(sleep=240))
    job_id = world.cluster.submit(request)
    jobs = world.jobs(request)
    assert [(job.id, job.token, job.member) for job in jobs.values()] == [(job_id, request.token, 0)]
    assert not jobs[0].is_ended


def test_unknown_tokens_have_no_jobs(world):
    world.cluster.submit(world.request(world.run()))
    snapshot = world.cluster.observe(["f" * 12], world.began - 3600)
    assert snapshot.queue == []
    assert not snapshot.history
    assert snapshot.problem == ""
    assert world.cluster.observe([], world.began).queue == []


def test_the_members_of_an_array(world):
    runs = [world.run(exit=code) for code in (0, 1, 2)]
    request = world.request(*runs)
    array = world.cluster.submit(request)
    jobs = world.ended(request)
    assert [job.id for job in jobs] == [f"{array}_{index}" for index in range(3)]
    assert [job.exit_code for job in jobs] == [0, 1, 2]
    assert [job.state for job in jobs] == ["COMPLETED", "FAILED", "FAILED"]
    assert [len(world.seen(run)) > 0 for run in runs] == [True] * 3


def test_max_parallel_members_run_at_once(world):
    request = world.request(*[world.run(sleep=2) for _ in range(3)], max_parallel=1)
    world.cluster.submit(request)
    jobs = sorted(world.ended(request), key=lambda job: job.start)
    assert all(one.end <= other.start for one, other in itertools.pairwise(jobs))


def test_members_of_an_array_that_wait_are_kept_off_nodes(world):
    runs = [world.run(sleep=240), *(world.run() for _ in range(3))]
    request = world.request(*runs, max_parallel=1)
    nodes = [node.name for node in world.cluster.nodes(request)]
    world.cluster.submit(request)
    world.started(runs[0])
    first, *others = [job.id for _, job in sorted(world.jobs(request).items())]
    world.cluster.avoid(others, nodes[:-1])
    world.cluster.cancel(first)
    used = {job.nodes for job in world.ended(request) if job.id != first}
    assert used == {nodes[-1] if nodes else os.uname().nodename}, "the local backend has this machine alone"


def test_a_job_that_allows_no_node_is_refused_and_one_that_waits_goes_on_waiting(operated_world):
    world = operated_world
    first, second = world.run(sleep=240), world.run()
    nodes = [node.name for node in world.cluster.nodes(world.request(first))]
    with pytest.raises(SubmitRefused, match="Requested node configuration is not available"):
        world.cluster.submit(world.request(first, resources={"exclude_nodes": nodes}))
    request = world.request(first, second, max_parallel=1)
    world.cluster.submit(request)
    world.started(first)
    running, waiting = [job.id for _, job in sorted(world.jobs(request).items())]
    world.cluster.avoid([waiting], nodes)
    world.cluster.cancel(running)
    world.wait(request, lambda job: job.is_ended or job.reason == "BadConstraints")
    world.cluster.avoid([waiting], nodes[1:])
    assert [job.nodes for job in world.ended(request)][1] == nodes[0]


@pytest.mark.parametrize("code", [0, 3, 75])
def test_an_ended_job_is_seen_with_its_exit_code(world, code):
    request = world.request(world.run(exit=code))
    world.cluster.submit(request)
    [job] = world.ended(request)
    assert job.state == ("FAILED" if code else "COMPLETED")
    assert (job.exit_code, job.exit_signal) == (code, None)
    assert job.start is not None
    assert job.end is not None
    assert world.began - 2 <= job.start <= job.end


def test_a_killed_worker_is_seen_with_its_signal(world):
    request = world.request(world.run(signal=9))
    world.cluster.submit(request)
    [job] = world.ended(request)
    assert (job.state, job.exit_code, job.exit_signal) == ("FAILED", 0, 9)


def test_history_has_a_row_for_each_run(world):
    request = world.request(world.run(exit=1))
    world.cluster.submit(request)
    world.ended(request)
    if not world.accounting:
        assert world.observe(request).history is None
        assert not world.observe(request).accounting
        return
    wanted = [("FAILED", 1)]
    while (rows := [(job.state, job.exit_code) for job in world.observe(request).history or ()]) != wanted:
        assert len(rows) <= 1
        world.pass_time()


def test_accounting_says_what_an_execution_held(world):
    request = world.request(world.run(sleep=4), resources={"gpus": 2})
    world.cluster.submit(request)
    [job] = world.ended(request)
    if not world.accounting:
        assert (job.elapsed, job.gpus) == (None, None)
        return
    while not (rows := [job for job in world.observe(request).history or () if job.is_ended]):
        world.pass_time()
    [row] = rows
    assert row.gpus == (0 if world.cluster.backend == "local" else 2)
    assert row.elapsed == pytest.approx(row.end - row.start)
    assert row.elapsed >= 2


def test_cancel_is_final(world):
    run = world.run(sleep=240)
    request = world.request(run)
    job_id = world.cluster.submit(request)
    world.running(request)
    world.started(run)
    world.cluster.cancel(job_id)
    [job] = world.ended(request)
    assert job.state == "CANCELLED"
    world.cluster.cancel(job_id)
    assert world.ended(request)[0].state == "CANCELLED"


def test_cancelling_a_waiting_member(world):
    """Slurm forgets a member that waited under its array's one record: then it is gone from the queue, and no more."""
    request = world.request(*[world.run(sleep=240) for _ in range(5)], max_parallel=1)
    array = world.cluster.submit(request)
    world.cluster.cancel(f"{array}_4")
    while (job := world.jobs(request).get(4)) is not None and not job.is_ended:
        world.pass_time()
    assert all(not job.is_ended for index, job in world.jobs(request).items() if index != 4)
    world.cluster.cancel(array)
    while any(not job.is_ended for job in world.jobs(request).values()):
        world.pass_time()
    assert {job.state for job in world.jobs(request).values()} == {"CANCELLED"}


def test_cancelling_a_waiting_job(world):
    first, second = (world.request(world.run(sleep=240), resources={"cpus": 32}) for _ in range(2))
    jobs = [world.cluster.submit(request) for request in (first, second)]
    for job_id in reversed(jobs):
        world.cluster.cancel(job_id)
    assert {job.state for request in (first, second) for job in world.ended(request)} == {"CANCELLED"}


@pytest.mark.parametrize("job_id", ["999999", "999999_3"])
def test_cancelling_a_job_that_is_no_more_is_no_error(world, job_id):
    world.cluster.cancel(job_id)


def test_cancelling_an_ended_job_changes_nothing(world):
    request = world.request(world.run())
    job_id = world.cluster.submit(request)
    [before] = world.ended(request)
    world.cluster.cancel(job_id)
    assert world.ended(request) == [before]


def test_a_requeued_job_keeps_its_id_and_counts(operated_world):
    world = operated_world
    run = world.run(first={"exit": 1}, exit=0)
    request = world.request(run)
    job_id = world.cluster.submit(request)
    [first] = world.ended(request)
    assert (first.exit_code, first.restart_count) == (1, 0)
    world.operator.requeue(job_id)
    [job] = world.wait(request, lambda job: job.state == "COMPLETED")
    assert (job.id, job.restart_count) == (job_id, 1)
    assert sum(line["event"] == "start" for line in world.seen(run)) == 2


def test_one_member_is_requeued_alone(operated_world):
    world = operated_world
    runs = [world.run(first={"exit": 1}), world.run(), world.run(exit=4)]
    request = world.request(*runs)
    array = world.cluster.submit(request)
    world.ended(request)
    world.operator.requeue(f"{array}_0")
    jobs = world.wait(request, lambda job: job.state == ("FAILED" if job.member == 2 else "COMPLETED"))
    assert [job.restart_count for job in jobs] == [1, 0, 0]


def test_a_suspended_job_is_alive_and_so_it_is_when_it_was_resumed(operated_world):
    world = operated_world
    run = world.run(sleep=240)
    request = world.request(run)
    job_id = world.cluster.submit(request)
    [job] = world.running(request)
    world.started(run)
    assert not job.is_suspended
    assert job.suspended <= 1, "seconds are rounded"
    world.operator.suspend(job_id)
    [job] = world.wait(request, lambda job: job.state == "SUSPENDED")
    assert (job.is_suspended, job.is_active, job.is_pending, job.is_ended) == (True, True, False, False)
    began = job.start
    end = world.cluster.observe([request.token], began).time + 8
    while world.cluster.observe([request.token], began).time < end:
        assert world.jobs(request)[0].state == "SUSPENDED"
        world.pass_time()
    world.operator.resume(job_id)
    [job] = world.running(request)
    assert (job.start, job.restart_count) == (began, 0)
    assert job.suspended >= 7
    world.cluster.cancel(job_id)
    [job] = world.ended(request)
    assert (job.state, job.suspended) == ("CANCELLED", 0)


def test_lifting_a_hold_that_is_not_there_changes_nothing(world):
    run = world.run(sleep=240)
    request = world.request(run)
    job_id = world.cluster.submit(request)
    world.running(request)
    world.cluster.lift_hold(job_id)
    assert world.jobs(request)[0].state == "RUNNING"


def test_check_accepts_what_runs(world):
    world.cluster.check(world.request(world.run()))


def test_the_site_says_who_it_is(world):
    site = world.cluster.probe()
    assert site.backend == world.cluster.backend
    assert site.accounting == (world.accounting and site.backend != "local")


# -- jobs that are processes --------------------------------------------------------------------------------------


def test_the_environment_that_a_job_sees(real_world, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "7")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("LVJOBS_CANCEL_FILE", "/stale")
    hostile = "a b'\"$(touch pwned)`x`\\ é"
    run = real_world.run()
    request = real_world.request(run, environment={"HOSTILE": hostile})
    job_id = real_world.cluster.submit(request)
    real_world.ended(request)
    environment = real_world.seen(run)[0]["environment"]
    assert environment["HOSTILE"] == hostile
    assert environment["LVJOBS_BACKEND"] == real_world.cluster.backend
    assert environment["LVJOBS_TOKEN"] == request.token
    assert float(environment["LVJOBS_LEAD_SECONDS"]) <= 30
    assert environment["HF_HUB_OFFLINE"] == environment["PYTHONUNBUFFERED"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment.get("LVJOBS_CANCEL_FILE") != "/stale"
    if real_world.cluster.backend == "local":
        assert environment["LVJOBS_JOB_ID"] == job_id
        assert "SLURM_NTASKS" not in environment
    else:
        assert environment["SLURM_JOB_ID"] == job_id
        assert environment["SLURM_NTASKS"] == "1"
        assert "SLURM_ARRAY_JOB_ID" not in environment


def test_the_code_directory_wins(real_world, monkeypatch, tmp_path):
    """Over the installed package, over the directory that the user was in, and over their PYTHONPATH."""
    edited = tmp_path / "edited"
    (edited / "lvjobs").mkdir(parents=True)
    (edited / "lvjobs" / "__init__.py").write_text("raise SystemExit('the edited code')")
    run = real_world.run()
    request = real_world.request(run)
    with monkeypatch.context() as context:
        context.chdir(edited)
        context.setenv("PYTHONPATH", str(Path(lvjobs.__file__).parent.parent))
        real_world.cluster.submit(request)
    [job] = real_world.ended(request)
    assert job.exit_code == 0
    seen = real_world.seen(run)[0]
    assert seen["package"] == str(request.code_directory)
    assert seen["python"] == sys.executable


def test_a_local_job_has_the_shells_path_behind_the_code_and_a_slurm_job_has_not(real_world, monkeypatch, tmp_path):
    """A Slurm job has what its modules set; the shell's PYTHONPATH is of the machine on which the shell runs."""
    run = real_world.run(first={"exit": 1})
    request = real_world.request(run)
    with monkeypatch.context() as context:
        context.chdir(tmp_path)
        context.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "packages"), "", "own"]))
        job_id = real_world.cluster.submit(request)
    real_world.ended(request)
    is_local = real_world.cluster.backend == "local"
    if not is_local:
        real_world.operator.requeue(job_id)  # from another shell
        real_world.wait(request, lambda job: job.state == "COMPLETED")
    behind = [tmp_path / "packages", tmp_path / "own"] if is_local else []
    path = os.pathsep.join(map(str, [request.code_directory, *behind]))
    starts = [line for line in real_world.seen(run) if line["event"] == "start"]
    assert [line["environment"]["PYTHONPATH"] for line in starts] == [path] * (1 if is_local else 2)


def test_every_member_has_a_log_of_its_own(real_world):
    runs = [real_world.run(), real_world.run()]
    array, single = real_world.request(*runs), real_world.request(real_world.run())
    ids = [real_world.cluster.submit(array), real_world.cluster.submit(single)]
    real_world.ended(array)
    real_world.ended(single)
    names = {f"{ids[0]}_0.out", f"{ids[0]}_1.out", f"{ids[1]}.out"}
    assert {path.name for path in real_world.logs.iterdir()} == names
    assert f"hello from {runs[1].name}" in (real_world.logs / f"{ids[0]}_1.out").read_text()


def test_a_requeued_job_appends_to_its_log(operated_world, real_world):
    run = real_world.run(first={"exit": 1})
    request = real_world.request(run)
    job_id = real_world.cluster.submit(request)
    real_world.ended(request)
    operated_world.operator.requeue(job_id)
    real_world.wait(request, lambda job: job.state == "COMPLETED")
    assert (real_world.logs / f"{job_id}.out").read_text().count("hello from") == 2


def test_cancelling_tells_the_worker(real_world):
    run = real_world.run(sleep=240)
    request = real_world.request(run)
    job_id = real_world.cluster.submit(request)
    real_world.started(run)
    real_world.cluster.cancel(job_id)
    real_world.ended(request)
    assert "SIGTERM" in real_world.seen(run)[-1]["signals"]


def test_a_worker_that_will_not_leave_is_killed(real_world):
    run = real_world.run(sleep=240, stubborn=True)
    request = real_world.request(run)
    job_id = real_world.cluster.submit(request)
    real_world.started(run)
    real_world.cluster.cancel(job_id)
    [job] = real_world.ended(request)
    assert job.state == "CANCELLED"
    assert real_world.seen(run)[-1]["event"] == "start"


def test_jobs_survive_the_command_that_submitted_them(real_world, tmp_path):
    """The submitting process ends, its session with it, before the job does."""
    run = real_world.run(sleep=2, exit=5)
    request = real_world.request(run)
    program = tmp_path / "submit.py"
    program.write_text(
        "import sys, pickle\nfrom pathlib import Path\n"
        "cluster, request = pickle.load(open(sys.argv[1], 'rb'))\nprint(cluster.submit(request))\n"
    )
    (tmp_path / "pickle").write_bytes(pickle.dumps((real_world.cluster, request)))
    subprocess.run(
        [sys.executable, str(program), str(tmp_path / "pickle")],
        check=True,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    [job] = real_world.ended(request)
    assert job.exit_code == 5


def test_the_script_can_be_read_by_bash(real_world):
    request = real_world.request(real_world.run(), real_world.run())
    script = real_world.cluster.script(request)
    subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    assert str(request.run_directories[1]) in script
