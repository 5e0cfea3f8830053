"""Parsers, on what Slurm 24.11.5 printed.

squeue.txt and sacct.txt are of one moment of one cluster with cgroups, before sacct was asked for ElapsedRaw and
AllocTRES. sacct_gpus.txt is of another cluster, asked for them (and for a job by its id, which it had left out); its
three companions are of clusters that track GPUs in other ways.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.cluster.parse import (
    parse_exit,
    parse_gpus,
    parse_history,
    parse_load,
    parse_place,
    parse_queue,
    parse_time,
)
from lvjobs.cluster.protocol import Job

CAPTURED = Path(__file__).parents[1] / "captured"
OOM, ARRAY, FAILS, KILLED, LIMIT, PREEMPTED, NODE, AGAIN = TOKENS = [f"{number:012d}" for number in range(1, 9)]


def captured(name):
    return (CAPTURED / name).read_text()


def captured_before():
    """sacct.txt with the two columns that it was not asked for."""
    rows = (line.split("|", 7) for line in captured("sacct.txt").splitlines())
    return "\n".join("|".join([*row[:7], "", "", row[7]]) for row in rows)


def captured_queue(name="squeue.txt", used="0:00"):
    """As squeue prints it since it is asked for more: before the name, which is the last 256 columns."""
    rows = [(line[:-256], line[-256:]) for line in captured(name).splitlines()]
    return "\n".join(f"{row}{'normal':<64}{'lab':<64}{used:<24}{name}" for row, name in rows)


def by_place(jobs):
    return {(job.token, job.member): job for job in jobs}


@pytest.fixture
def queue():
    return by_place(parse_queue(captured_queue(), TOKENS))


@pytest.fixture
def history():
    return parse_history(captured_before(), TOKENS)


def test_the_queue_has_our_jobs_and_no_others(queue):
    members = [(ARRAY, 1), (ARRAY, 2), (ARRAY, 3), (ARRAY, 0)]
    assert set(queue) == {*members, *((token, 0) for token in TOKENS)}


def test_only_the_tokens_asked_for(queue):
    assert [job.token for job in parse_queue(captured_queue(), {LIMIT})] == [LIMIT]
    assert parse_queue(captured_queue(), set()) == []
    assert len(parse_queue(captured_queue(), None)) == len(queue)


def test_the_load_counts_what_waits_and_runs_whoever_sent_it(queue):
    alive = sum(not job.is_ended for job in queue.values())
    load = parse_load(captured_queue() + "\n" + captured_queue().replace("0000", "zzzz"))
    assert alive == 7
    assert load == {("user", ""): 14, ("qos", "normal"): 14, ("account", "lab"): 14, ("partition", "low"): 14}
    assert parse_load("") == {}


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


@pytest.mark.parametrize(("used", "seconds"), [("1:15", 300), ("0:06:15", 0), ("1-00:00:00", 0), ("INVALID", 0)])
def test_the_time_that_squeue_does_not_count_is_time_suspended(used, seconds):
    jobs = by_place(parse_queue(captured_queue(used=used), TOKENS, 1795568684.0 + 75 + 300))
    assert jobs[ARRAY, 0].suspended == seconds
    assert {job.suspended for job in jobs.values() if job.state != "RUNNING"} == {0}


@pytest.mark.parametrize("state", ["SUSPENDED", "RESV_DEL_HOLD", "EXPEDITING", "POWER_UP_NODE", "REVOKED", "?"])
def test_a_state_that_is_no_end_is_one_of_a_live_job(state):
    text = captured_queue().replace(f"{'RUNNING':<24}", f"{state:<24}")
    job = by_place(parse_queue(text, TOKENS, 2e9))[ARRAY, 0]
    assert (job.state, job.is_ended, job.end, job.exit_code, job.suspended) == (state, False, None, None, 0)
    assert parse_load(text) == parse_load(captured_queue())
    row = f"5|{state}|0:0|1795568684|Unknown|low|n1|75|billing=2,cpu=2|run.{LIMIT}"
    [job] = parse_history(row, TOKENS)
    assert (job.state, job.is_ended, job.end) == (state, False, None)


def test_local_times_are_understood_too():
    [job] = parse_queue(captured_queue("squeue_local_times.txt"), TOKENS)
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
    text = "9|COMPLETED|0:0|1|2|low|n1|1|cpu=1|a|b.c|d.00000000000f\n"
    assert [job.token for job in parse_history(text, {"00000000000f"})] == ["00000000000f"]


def test_a_reused_id_is_another_job():
    """After the scheduler lost its state: the rows of one id have different tokens, and each begins at restart 0."""
    text = (
        f"9|FAILED|1:0|1|2|low|n1|||a.{OOM}\n9.0|OUT_OF_MEMORY|0:125|1|2||n1|||x\n9|FAILED|1:0|3|4|low|n1|||a.{FAILS}\n"
    )
    jobs = parse_history(text, TOKENS)
    assert [(job.token, job.state, job.restart_count) for job in jobs] == [
        (OOM, "OUT_OF_MEMORY", 0),
        (FAILS, "FAILED", 0),
    ]


def test_steps_of_a_stranger_are_nobodys():
    text = (
        f"9|FAILED|1:0|1|2|low|n1|||a.{OOM}\n9|FAILED|1:0|3|4|low|n1|||stranger\n9.0|OUT_OF_MEMORY|0:125|3|4||n1|||x\n"
    )
    assert [job.state for job in parse_history(text, TOKENS)] == ["FAILED"]


# -- what each execution held ----------------------------------------------------------------------------------------


def held(name, token):
    jobs = parse_history(captured(name), {f"{token:012d}"})
    return [(job.elapsed, job.gpus) for job in jobs]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (1, [(3.0, 2)]),
        (2, [(2.0, 3)]),  # --gres=gpu:ampere:3
        (3, [(1.0, 0)]),  # it asked for no GPU
        (4, [(4.0, 1), (8.0, 1)]),  # preempted, then to its end
        (6, [(0.0, None)]),  # cancelled before it began
        (7, [(30.0, 1), (30.0, 1)]),  # members of an array
        (8, [(2.0, 4)]),  # two nodes, two GPUs each
        (9, [(3.0, 2)]),  # its node failed
        (10, [(7.0, 2)]),  # it runs
    ],
)
def test_what_an_execution_held(token, expected):
    assert held("sacct_gpus.txt", token) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sacct_gpus_both.txt", [2, 1]),  # AccountingStorageTRES=gres/gpu,gres/gpu:ampere
        ("sacct_gpus_typed.txt", [2, 1]),  # =gres/gpu:ampere
        ("sacct_gpus_untracked.txt", [0, 0]),  # =cpu: nobody knows
    ],
)
def test_gpus_where_a_site_tracks_them_in_other_ways(name, expected):
    assert [gpus for token in (1, 2) for _, gpus in held(name, token)] == expected


def test_what_was_held_is_unknown_where_accounting_was_not_asked(history, queue):
    assert {(job.elapsed, job.gpus) for job in [*history, *queue.values()]} == {(None, None)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=4,gres/gpu:a100=4,mem=1T", 4),
        ("gres/gpu:a100=4,gres/gpu:h100=2", 6),
        ("gres/gpu:a100=4,gres/gpu=6,gres/gpu:h100=2", 6),
        ("gres/gpumem=80G,gres/gpuutil=3,gres/gpu=1", 1),
        ("gres/gpumem=80,gres/gpuutil=3", 0),
        ("cpu=1", 0),
        ("", None),
        ("N/A", None),
        ("gres/gpu=x", None),
    ],
)
def test_gpus(text, expected):
    assert parse_gpus(text) == expected


# -- small parts -----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("text", ["N/A", "Unknown", "None", "", "0", "(null)", "²"])
def test_no_time(text):
    assert parse_time(text) is None


@given(st.text())
def test_no_text_breaks_a_parser(text):
    parse_queue(text, TOKENS)
    parse_history(text, TOKENS)
    parse_time(text)
    parse_exit(text)
    parse_gpus(text)


@given(st.text(), st.text())
def test_no_elapsed_time_or_resources_break_the_parser(elapsed, tres):
    parse_history(f"9|FAILED|1:0|1|2|low|n1|{elapsed}|{tres}|a.{OOM}", TOKENS)


@given(st.lists(st.sampled_from(captured_before().splitlines()), max_size=40))
def test_rows_in_any_order_and_number_are_read(lines):
    for job in parse_history("\n".join(lines), TOKENS):
        assert job.token in TOKENS


# -- where a job stands -------------------------------------------------------------------------------------------

WAITING = """\
17|100|low
18_[0-3]|400|low
19|400|high
20|50|low
21|300|low
slurm_load_jobs: something else
"""


@pytest.mark.parametrize(
    ("job_id", "words"),
    [
        ("17", "3 of 4 pending jobs in partition low (priority 100)"),
        ("18_2", "first of 4 pending jobs in partition low (priority 400)"),
        ("19", "the only pending job in partition high (priority 400)"),
    ],
)
def test_where_a_job_stands_among_those_of_its_partition(job_id, words):
    assert parse_place(WAITING, job_id).words == words


def test_a_job_that_does_not_wait_stands_nowhere():
    assert parse_place(WAITING, "99") is None
    assert parse_place("", "17") is None
