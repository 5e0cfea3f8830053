"""The GPU-seconds that a run may hold: its worker stops in time, also where no pass looks."""

import time

import pytest
from worker_helpers import Zygote, entries, executed, make_run, submit

from lvjobs.files import append_line
from lvjobs.records.journal import Entry
from lvjobs.records.submission import GpuAllowance, orders_text
from lvjobs.worker import attempt as attempts
from lvjobs.worker.allowance import AllowanceMeter
from lvjobs.worker.early_exit import DEADLINE, OUT_OF_GPU_HOURS, Deadline
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.submission import Submission

STEPS = 40


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def layout(tmp_path):
    layout = make_run(tmp_path / "study" / "checkpoints" / "run")
    submit(layout)
    return layout


def allow(layout, *values):
    """The order of a pass: so many GPU-seconds, and how many GPUs hold them."""
    order = orders_text(gpu_seconds={"run": GpuAllowance(*values)})
    append_line(layout.study.submission("abc"), order)


def test_nothing_is_begun_where_no_gpu_seconds_are_left_and_all_is_done_once_they_are(zygote, layout):
    allow(layout, 100, 2.0, 100)
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 75
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["action"]) == ("exhausted", "none")
    assert leave["detail"].startswith("the GPU-hours that were reserved for the run are used up")
    assert executed(layout) == []
    allow(layout, 10**6, 2.0, 100)
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 0
    assert executed(layout) == list(range(1, STEPS + 1))
    assert all(start["job_start"] > 0 for start in entries(layout, "start"))


def test_the_time_of_earlier_generations_counts_unless_a_pass_has_counted_it(layout):
    layout.journals.mkdir(exist_ok=True)
    for number, (began, ended) in enumerate([(1000.0, 1100.0), (1200.0, 1230.0)], 1):
        with layout.journal(number).open("w") as stream:
            stream.write(Entry("start", began + 7, {"job_start": began}).to_line())
            stream.write(Entry("step", ended, {"step": number}).to_line())

    def end(*allowance):
        allow(layout, *allowance)
        return AllowanceMeter(layout, 3, Submission(layout, "abc"), 5000.0).gpu_seconds_end

    assert end(400, 2.0) == 5000 + 200 - 130
    assert end(400, 2.0, 240, 2) == 5000 + 80 - 30, "accounting knows 240 GPU-seconds of the first"
    assert end(400, 2.0, 300, 3) == 5000 + 50


def test_the_time_of_a_generation_that_still_writes_grows(layout):
    layout.journals.mkdir(exist_ok=True)
    allow(layout, 400, 2.0)
    with layout.journal(1).open("w") as stream:
        stream.write(Entry("start", 1000.0, {"job_start": 990.0}).to_line())
    meter = AllowanceMeter(layout, 2, Submission(layout, "abc"), 5000.0)
    assert meter.gpu_seconds_end == 5200 - 10
    with layout.journal(1).open("a") as stream:
        stream.write(Entry("step", 1050.0, {"step": 1}).to_line())
    meter.refresh()
    assert meter.gpu_seconds_end == 5200 - 60


def test_a_submission_without_an_order_has_no_limit_of_gpu_seconds(layout):
    assert AllowanceMeter(layout, 1, Submission(layout, "abc"), 5000.0).gpu_seconds_end is None


@pytest.fixture
def attempt(layout, monkeypatch):
    """An attempt of a job that `began` so many seconds ago, and has an hour of time limit."""
    now = time.time()
    monkeypatch.setattr(attempts, "is_superseded", lambda *_: False)

    def make(*allowance, task="toy_task:train", seconds=0.0, began=1000):
        allow(layout, *allowance)
        submission = Submission(layout, "abc")
        config = submission.read_run().model_copy(update={"task": task})
        journal = JournalWriter(layout.journal(1))
        made = attempts.Attempt(layout, config, 1, submission, journal, None, job_start=now - began)
        made.deadline = Deadline(now - began + 3600, 3600, 90)
        made._step_seconds = seconds
        return made

    layout.journals.mkdir(exist_ok=True)
    return make


@pytest.mark.parametrize(("left", "seconds", "stops"), [(30, 1, False), (30, 60, True), (0, 0, True)])
def test_a_function_stops_when_another_step_and_its_checkpoint_would_not_fit(attempt, left, seconds, stops):
    made = attempt(1000 + left, 1.0, seconds=seconds)
    assert made.must_stop() == stops
    assert made.reason == (OUT_OF_GPU_HOURS if stops else None)


@pytest.mark.parametrize(("left", "stops"), [(30, True), (300, False)])
def test_a_program_gets_the_lead_for_its_next_checkpoint(attempt, left, stops):
    from lvjobs.study.program.command import COMMAND_TASK

    made = attempt(1000 + left, 1.0, task=COMMAND_TASK)
    assert made.must_stop() == stops
    assert made.gpu_seconds_end == pytest.approx(time.time() + left, abs=60)


@pytest.mark.parametrize(("more", "reason"), [(3600, DEADLINE), (30, OUT_OF_GPU_HOURS)])
def test_a_job_is_not_requeued_at_its_time_limit_where_too_little_is_left_for_another(attempt, more, reason):
    made = attempt(3600 + more, 1.0, began=3590)
    assert made.must_stop()
    assert made.reason == reason
