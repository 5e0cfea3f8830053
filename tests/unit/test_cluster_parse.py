"""Parsers, on what Slurm 24.11.5 printed. The squeue and sacct texts are of one moment of one cluster with cgroups."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.cluster.parse import parse_exit, parse_history, parse_queue, parse_time
from lvjobs.cluster.protocol import Job

CAPTURED = Path(__file__).parent / "captured"
OOM, ARRAY, FAILS, KILLED, LIMIT, PREEMPTED, NODE, AGAIN = TOKENS = [f"{number:012d}" for number in range(1, 9)]


def captured(name):
    return (CAPTURED / name).read_text()


def by_place(jobs):
    return {(job.token, job.member): job for job in jobs}


@pytest.fixture
def queue():
    return by_place(parse_queue(captured("squeue.txt"), TOKENS))


@pytest.fixture
def history():
    return parse_history(captured("sacct.txt"), TOKENS)


def test_the_queue_has_our_jobs_and_no_others(queue):
    members = [(ARRAY, 1), (ARRAY, 2), (ARRAY, 3), (ARRAY, 0)]
    assert set(queue) == {*members, *((token, 0) for token in TOKENS)}


def test_only_the_tokens_asked_for(queue):
    assert [job.token for job in parse_queue(captured("squeue.txt"), {LIMIT})] == [LIMIT]
    assert parse_queue(captured("squeue.txt"), set()) == []
    assert len(parse_queue(captured("squeue.txt"), None)) == len(queue)


def test_a_requeued_job_waits_for_its_begin_time(queue):
    job = queue[PREEMPTED, 0]
    assert job == Job("6", PREEMPTED, 0, "PENDING", "BeginTime", start=1795568808.0, restart_count=1, partition="low")


def test_a_running_member_has_no_end_yet(queue):
    job = queue[ARRAY, 0]
    assert (job.id, job.state, job.end, job.exit_code, job.nodes) == ("2_0", "RUNNING", None, None, "n1")


def test_waiting_members(queue):
    assert [queue[ARRAY, index].id for index in (1, 2, 3)] == ["2_1", "2_2", "2_3"]
    assert {queue[ARRAY, index].reason for index in (1, 2, 3)} == {"JobArrayTaskLimit"}
    assert queue[ARRAY, 1].start is None


def test_ended_jobs_in_the_queue(queue):
    assert (queue[FAILS, 0].state, queue[FAILS, 0].exit_code, queue[FAILS, 0].exit_signal) == ("FAILED", 3, None)
    assert (queue[KILLED, 0].exit_code, queue[KILLED, 0].exit_signal) == (0, 9)
    assert (queue[LIMIT, 0].state, queue[LIMIT, 0].end) == ("TIMEOUT", 1795568760.0)


def test_local_times_are_understood_too():
    [job] = parse_queue(captured("squeue_local_times.txt"), TOKENS)
    assert job.end - job.start == 76


def test_an_out_of_memory_step_is_its_jobs_cause(history, queue):
    assert queue[OOM, 0].state == "FAILED"
    assert by_place(history)[OOM, 0].state == "OUT_OF_MEMORY"


def test_the_steps_signal_is_its_jobs(history):
    job = by_place(history)[KILLED, 0]
    assert (job.state, job.exit_code, job.exit_signal) == ("FAILED", 0, 9)
    assert (by_place(history)[FAILS, 0].exit_code, by_place(history)[FAILS, 0].exit_signal) == (3, None)


def test_the_runs_of_a_requeued_job_in_order(history):
    runs = [job for job in history if job.token == PREEMPTED]
    assert [(job.state, job.restart_count, job.is_ended) for job in runs] == [
        ("PREEMPTED", 0, True),
        ("CANCELLED", 1, True),
    ]


def test_an_earlier_run_that_was_requeued_keeps_its_end(history):
    job = by_place(history)[AGAIN, 0]
    assert (job.state, job.exit_code, job.end) == ("REQUEUED", 7, 1795568688.0)


def test_members_that_were_cancelled_before_they_had_records_of_their_own(history):
    cancelled = [job for job in history if job.token == ARRAY and job.member]
    assert [(job.id, job.state, job.start) for job in cancelled] == [
        (f"2_{index}", "CANCELLED", None) for index in (1, 2, 3)
    ]
    assert cancelled[0].nodes == ""


def test_node_failure_with_steps_that_have_no_exit_code(history):
    job = by_place(history)[NODE, 0]
    assert (job.state, job.nodes, job.exit_signal) == ("NODE_FAIL", "n3", None)


def test_a_name_with_a_bar_in_it():
    text = "9|COMPLETED|0:0|1|2|low|n1|a|b.c|d.00000000000f\n"
    assert [job.token for job in parse_history(text, {"00000000000f"})] == ["00000000000f"]


def test_a_reused_id_is_another_job():
    """After the scheduler lost its state: the rows of one id have different tokens, and each begins at restart 0."""
    text = f"9|FAILED|1:0|1|2|low|n1|a.{OOM}\n9.0|OUT_OF_MEMORY|0:125|1|2||n1|x\n9|FAILED|1:0|3|4|low|n1|a.{FAILS}\n"
    jobs = parse_history(text, TOKENS)
    assert [(job.token, job.state, job.restart_count) for job in jobs] == [
        (OOM, "OUT_OF_MEMORY", 0),
        (FAILS, "FAILED", 0),
    ]


def test_steps_of_a_stranger_are_nobodys():
    text = f"9|FAILED|1:0|1|2|low|n1|a.{OOM}\n9|FAILED|1:0|3|4|low|n1|stranger\n9.0|OUT_OF_MEMORY|0:125|3|4||n1|x\n"
    assert [job.state for job in parse_history(text, TOKENS)] == ["FAILED"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:0", (0, None)),
        ("3:0", (3, None)),
        ("0:9", (0, 9)),
        ("137:0", (0, 9)),
        ("143:0", (0, 15)),
        ("255:0", (255, None)),
        ("128:0", (128, None)),
        ("", (None, None)),
        ("N/A", (None, None)),
    ],
)
def test_exit_codes(text, expected):
    assert parse_exit(text) == expected


@pytest.mark.parametrize("text", ["N/A", "Unknown", "None", "", "0", "(null)"])
def test_no_time(text):
    assert parse_time(text) is None


@given(st.text())
def test_no_text_breaks_a_parser(text):
    parse_queue(text, TOKENS)
    parse_history(text, TOKENS)
    parse_time(text)
    parse_exit(text)


@given(st.lists(st.sampled_from(captured("sacct.txt").splitlines()), max_size=40))
def test_rows_in_any_order_and_number_are_read(lines):
    for job in parse_history("\n".join(lines), TOKENS):
        assert job.token in TOKENS
