"""The tables fit the terminal, and say in words what is wrong."""

import io
import re
import time

import pytest
from control_builders import a_run
from rich.console import Console

from lvjobs.control.budget.accounts import Terms, keep_books, statement
from lvjobs.flops.conventions import BINDING
from lvjobs.records.summary import RunStatus, RunTable, StageStatus, Summary, read_row
from lvjobs.report.terminal.budget_lines import print_budget
from lvjobs.report.terminal.console import bar, short_start, sparkline
from lvjobs.report.terminal.plain_lines import site_lines
from lvjobs.report.terminal.status_lines import fold, print_status

pytestmark = pytest.mark.heavy


def a_row(**changes):
    row = {
        "name": "stage1-r8-lr0.0001-c512-s0-3fa9",
        "stage": "stage1",
        "state": "running",
        "cause": "preempted",
        "step": 323,
        "steps": 5000,
        "loss": 0.12345,
        "validation_loss": 0.5,
        "untrained_loss": None,
        "attempts": 2,
        "replayed_steps": 170,
        "job_id": "123456_7",
        "reason": "",
        "error": "",
    }
    return {**row, **changes}


def shown(function, value, width=100, **options):
    stream = io.StringIO()
    function(value, Console(file=stream, width=width), **options)
    return stream.getvalue()


def status(*runs, width=100, terminal=False, **changes):
    summary = {"study": "/home/someone/lotka", "runs": list(runs), "stages": [], "did": [], "problems": [], **changes}
    stream = io.StringIO()
    print_status(
        Summary.from_dict(summary), Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    )
    return stream.getvalue()


@pytest.mark.parametrize("whole", [True, False])
def test_status_reads_only_the_fields_that_it_prints(whole):
    read = set()

    def values(name):
        read.add(name)
        return [a_row(name=f"run{number}", curve=[2.0, 1.0]).get(name) for number in range(100)]

    summary = Summary("/s", 0.0, [], [], RunTable(values), [], [], {})
    print_status(summary, Console(file=io.StringIO(), width=200, height=30), whole=whole)
    assert {"name", "state", "curve", "job_id"} < read
    assert read & {"profile", "executed_steps", "checkpoint_step", "queue_reason", "reserved", "ordinal"} == set()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits(width):
    left, flops, curve = {"seconds_left": 11_000.0}, {"flops": 12 * 10**14}, {"curve": [3.0, 2.0, 1.0]}
    text = status(
        a_row(**left, **flops, **curve),
        a_row(name="stage1-r2-lr0.0001-c512-s0-91ab", state="interrupted", cause="hung"),
        width=width,
        terminal=True,
    )
    assert max(map(len, text.splitlines())) <= width
    for word in ("323/5000", "0.500", "2, preempted", "2, hung", "interrupted", "lotka: 2 runs", "3.1 h left"):
        assert word in text
    for word in ("1.2e15", "0.123", "░░░░░"):
        assert word in text or width < 100
    assert ("█▅▁" in text) == (width >= 100)
    for word in ("170", "123456_7"):
        assert (word in text) == (width == 160)
    for name in ("r8-3fa9", "r2-91ab"):  # without what both have: lvjobs finds a run by this too
        assert any(line.startswith(f"{name} ") for line in text.splitlines())


def test_80_columns_keep_the_validation_loss_and_the_time_of_the_end():
    """By these a run is judged; FLOPs and the training loss give way, and the middle of long names."""
    long = {"flops": 12 * 10**14, "seconds_left": 11_000.0, "steps": 6000}
    names = [f"eval-rank-r{rank}-lr0.004-c64-s0-925e-{rank}f3d" for rank in (2, 4)]
    text = status(*(a_row(name=name, **long) for name in (*names, "rank-r8-lr0.001")), width=80, terminal=True)
    head = text.splitlines()[3].split()
    assert head == ["run", "state", "step", "expected", "validation", "attempts"]
    assert "…2f3d" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_columns_of_all_stages_stand_below_one_another():
    text = status(a_row(), a_row(stage="evaluate", name="eval-" + a_row()["name"]), width=120)
    assert len({line.index("323/5000") for line in text.splitlines() if "323/5000" in line}) == 1
    assert text.count("validation") == 1


def test_a_program_gets_a_line_for_each_run_with_its_whole_name_however_long_it_is():
    name = "a-run-whose-name-somebody-made-with-a-great-many-letters-and-digits-0123456789-end"
    (line,) = [line for line in status(a_row(name=name), width=80).splitlines() if name[:9] in line]
    assert line.split(" ")[0] == name
    assert "2, preempted" in line


def test_a_terminal_of_ascii_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    row = a_row(curve=[3.0, 2.0, 1.0], flops=1, seconds_left=1.0)
    summary = {"study": "/s", "runs": [row], "stages": [], "did": [], "problems": []}
    print_status(Summary.from_dict(summary), Console(file=stream, width=160))
    stream.flush()
    text = stream.buffer.getvalue().decode()
    assert "^._" in text or "^-_" in text


@pytest.mark.parametrize("width", [80, 160])
def test_a_numeric_heads_loss_is_marked_and_explained(width):
    losses = {"loss": None, "loss_numeric": 0.75, "validation_loss": None, "validation_loss_numeric": 0.25}
    other = a_row(name="other", **losses, untrained_loss_numeric=None)
    text = status(a_row(), other, width=width, terminal=width == 80)
    for word in ("0.500", "0.250n", "n: of a numeric head"):
        assert word in text
    assert ("0.123 " in text and "0.750n" in text) or width < 160
    assert "numeric head" not in status(a_row())


def test_a_held_run_says_why():
    text = status(a_row(state="held", cause="code_error", reason="ValueError: no; mend it"))
    assert "held" in text
    assert "code_error" in text
    assert "\nstage1-r8-lr0.0001-c512-s0-3fa9: ValueError: no; mend it\n" in text


def test_of_many_that_wait_for_others_it_is_said_once():
    waiting = {"state": "planned", "cause": None}
    runs = [
        a_row(name=f"eval-{number}", reason=f"depends on run-{number}", after=f"run-{number}", **waiting)
        for number in range(5)
    ]
    assert "eval-0, eval-1, eval-2 and 2 more: each depends on an unfinished run" in status(*runs)
    assert "eval-0: depends on run-0" in status(runs[0])


def test_of_many_that_want_flops_it_is_said_once():
    reason = "needs {}e+12 FLOPs more than is available (limit 3e+12); it resumes automatically"
    held = {"state": "held", "held_for": "budget"}
    runs = [a_row(name=f"run-{number}", reason=reason.format(number + 1), **held) for number in range(5)]
    said = "run-0, run-1, run-2 and 2 more: the first needs 1e+12 FLOPs more than is available"
    assert said in status(*runs, width=200)
    assert "run-0: needs 1e+12 FLOPs more" in status(runs[0])


def test_when_a_run_starts_is_told_as_exactly_as_it_matters():
    now = time.time()
    assert re.fullmatch(r"\d\d:\d\d", short_start(now + 3600))
    assert re.fullmatch(r"\w{3} \d\d:\d\d", short_start(now + 86400))
    assert re.fullmatch(r"\d\d \w{3}", short_start(now + 30 * 86400))
    assert f" start {short_start(now + 3600)}" in status(a_row(state="queued", start_estimate=now + 3600), width=120)
    assert f" after {short_start(now + 3600)}" in status(a_row(state="interrupted", not_before=now + 3600), width=120)


def test_a_finished_run_says_nothing_more():
    assert "old" not in status(a_row(state="completed", cause="completed", error="old"))


def test_no_runs_says_what_to_type():
    assert "lvjobs submit train" in status()


def test_the_last_lines_say_what_it_cost_and_what_the_pass_did():
    budget = {"spent": 10**16, "limit": 10**17, "reserved": 0, "free": 9 * 10**16, "replayed": 10**15}
    text = status(a_row(), budget=budget, did=[f"thing {number}" for number in range(9)])
    assert "budget: 1.0e16 of 1e17 FLOPs spent (10.0 %), 0 reserved, 9.0e16 free; 10.0 % repeated" in text
    assert "Updated just now: thing 0\n  thing 1\n" in text
    assert "thing 8" in text
    assert "; < 0.1 % repeated" in status(a_row(), budget={**budget, "replayed": 10**9})


# -- many runs ------------------------------------------------------------------------------------------------------


def a_stage(name, state="running"):
    words = {"runs": 0, "done": 0, "winner": None, "because": "", "by_hand": False, "reason": ""}
    return {"name": name, "state": state, **words}


@pytest.mark.parametrize("terminal", [False, True])
def test_the_winner_of_a_stage_has_a_star_and_no_other_run(terminal):
    decided = {**a_stage("stage1", "completed"), "winner": "other", "because": "lowest"}
    over = {"state": "completed", "cause": "completed"}
    text = status(a_row(**over), a_row(name="other", **over), stages=[decided], terminal=terminal, width=160)
    (line,) = [line for line in text.splitlines() if " * " in line]
    assert line.startswith("other ")


def many(count, stage="stage1", state="planned"):
    return [a_row(name=f"{stage}-{number}", stage=stage, state=state, reason="") for number in range(count)]


def folded(runs, stages, lines):
    return fold([read_row(RunStatus, run) for run in runs], [read_row(StageStatus, stage) for stage in stages], lines)


def test_a_thousand_runs_fit_a_screen():
    runs = [*many(500, "one", "completed"), *many(500, "two")]
    runs[700] = {**runs[700], "state": "held", "reason": "look at me"}
    runs[800] = {**runs[800], "state": "running"}
    summary = {
        "study": "/s",
        "runs": runs,
        "stages": [a_stage("one", "completed"), a_stage("two")],
        "did": ["something"] * 50,
        "problems": [],
    }
    stream = io.StringIO()
    console = Console(file=stream, width=100, height=40)
    print_status(Summary.from_dict(summary), console, whole=False)
    text = stream.getvalue()
    assert len(text.splitlines()) <= 40
    assert len(text.splitlines()) > 25, "there was room for more"
    for words in ("two-200", "two-300", "look at me", "500 completed", "lvjobs status --all", "and 47 more"):
        assert words in text
    assert "one-1" not in text


def test_runs_of_many_stages_that_are_over_are_counted():
    runs = [run for number in range(9) for run in many(100, f"stage{number}", "completed")]
    runs[850] = {**runs[850], "state": "running"}
    blocks = folded(runs, [], 40)
    assert [len(block.shown) for block in blocks] == [0] * 8 + [9]
    assert blocks[0].hidden == {"completed": 100}
    assert sum(3 if block.hidden else 2 for block in blocks) + 9 + 1 <= 40


def test_what_a_decided_stage_has_paused_is_over():
    runs = [*many(50, "one", "paused"), *many(50, "two")]
    one, two = folded(runs, [a_stage("one", "completed"), a_stage("two")], 30)
    assert (list(one.shown), one.hidden) == ([], {"paused": 50})
    assert two.shown


def test_whoever_needs_attention_is_shown_first():
    runs = many(50)
    runs[40] = {**runs[40], "state": "held"}
    (block,) = folded(runs, [a_stage("stage1")], 12)
    assert "stage1-40" in [run.name for run in block.shown]
    assert sum(block.hidden.values()) + len(block.shown) == 50
    (block,) = folded(runs, [a_stage("stage1")], None)
    assert (len(block.shown), block.hidden) == (50, {})


def test_a_small_study_is_not_folded():
    blocks = folded([*many(3), *many(2, "final")], [a_stage("stage1"), a_stage("final", "declared")], 40)
    assert [(block.stage.name, len(block.shown)) for block in blocks] == [("stage1", 3), ("final", 2)]


# -- lines of characters --------------------------------------------------------------------------------------------


def test_a_sparkline_falls_as_its_curve():
    assert sparkline([4.0, 3.0, 2.0, 1.0], 8) == "█▆▃▁"
    assert len(sparkline(list(range(16)), 8)) == 8
    assert sparkline([], 8) == ""
    assert sparkline([1.0, 1.0], 8) == "▁▁"
    assert sparkline([2.0, 1.0], 8, plain=True).isascii()


def test_a_bar_is_full_when_all_is_done_and_not_sooner():
    assert [bar(share, 4) for share in (0.0, 0.5, 0.999, 1.0)] == ["░░░░", "██░░", "███░", "████"]


# -- the budget and the site ----------------------------------------------------------------------------------------


def test_the_budget_adds_up_before_the_eyes():
    budget = {
        "convention": "official",
        "counts_inference": True,
        "limit": 10**17,
        "spent": 3 * 10**16,
        "reserved": 2 * 10**16,
        "free": 5 * 10**16,
        "useful": 2 * 10**16,
        "replayed": 10**16,
        "validation": 0,
        "generation": 0,
        "estimated": 0,
        "by_stage": {"stage1": 3 * 10**16},
        "by_run": {f"run{number}": number for number in range(15)},
        "by_convention": {"official": 3 * 10**16, "exact": 2 * 10**16, "published-formula": None},
    }
    text = shown(print_budget, budget, 80)
    assert max(map(len, text.splitlines())) <= 80
    for words in ("3e16", "30.00 %", "20.00 %", "50.00 %", "stage1", "unknown", "does not apply"):
        assert words in text
    assert "run14" in text
    assert "4 other runs" in text
    assert "run3 " not in text
    assert "estimated" not in text
    assert "not counted" not in text
    text = shown(print_budget, {**budget, "estimated": 10**14, "counts_inference": False, "free": -(10**16)})
    for words in ("estimated part", "not counted", "exceed the limit by 1e+16"):
        assert words in text


def test_the_budget_names_runs_that_another_convention_counts():
    books = keep_books(Terms(100, "exact"), [a_run(rates={"official": {"training": 3}})], [], {})
    budget = {**statement(books), "by_run": {}}
    assert "are counted by the official convention" in " ".join(shown(print_budget, budget).split())
    known = keep_books(Terms(100, "exact"), [a_run(rates={name: {"training": 3} for name in BINDING})], [], {})
    assert "official convention:" not in shown(print_budget, {**statement(known), "by_run": {}})


def test_a_site_is_told_in_words():
    site = {
        "preempt_mode": "cancel",
        "requeue_hold_seconds": 121.0,
        "accounting": False,
        "min_job_age_seconds": 300.0,
        "partitions": {"low": 2160.0, "long": None},
        "notes": ["a preempted job is cancelled"],
        "ways": ["scrontab is available"],
    }
    text = "\n".join(site_lines(site))
    for words in (
        "PreemptMode=CANCEL",
        "held for 121 s",
        "forgets how a job ended after 300 s",
        "low 36 h, long no limit",
        "is cancelled",
        "scrontab",
    ):
        assert words in text
    assert "does not preempt" in next(site_lines({**site, "preempt_mode": "off"}))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_columns_keep_their_places_from_the_first_submission_to_the_last_end(width):
    nothing = dict.fromkeys(("loss", "validation_loss", "cause", "job_id"))
    queued = a_row(**nothing, state="queued", step=0, attempts=0, flops=0, replayed_steps=0)
    moments = [
        queued,
        {**queued, "state": "running", "attempts": 1, "step": 3, "seconds_left": 7300.0},
        {
            **queued,
            "state": "running",
            "attempts": 1,
            "step": 300,
            "loss": 2.3456,
            "flops": 10**13,
            "curve": [2.0, 1.0],
        },
        {
            **queued,
            "state": "running",
            "attempts": 1,
            "step": 4000,
            "loss": 0.5,
            "flops": 10**15,
            "validation_loss": 0.4,
        },
        a_row(state="completed", step=5000, replayed_steps=0, job_id=None, flops=10**15, curve=[2.0, 1.0]),
    ]
    others = [a_row(name=f"stage1-r4-lr0.0001-c512-s{seed}-4fa9", **nothing, state="queued", step=0) for seed in (1, 2)]
    shown = [status(moment, *others, width=width, terminal=True) for moment in moments]
    headers = [next(line for line in text.splitlines() if "attempts" in line) for text in shown]
    assert len({*headers}) == 1, headers
    assert "validation" in headers[0]


def test_a_number_that_a_completed_study_does_not_have_takes_no_room():
    row = a_row(state="completed", validation_loss=None)
    assert "validation" not in status(row, width=160)
    assert "validation" in status({**row, "state": "running"}, width=160), "it may come"


def test_a_command_is_not_broken_at_the_end_of_a_line():
    for words in range(1, 16):
        reason = f"{'no such file ' * words}; fix it, then type: lvjobs resume one"
        text = status(a_row(name="one", state="held", reason=reason), width=80, terminal=True)
        assert any("lvjobs resume one" in line for line in text.splitlines()), text
        assert max(map(len, text.splitlines())) <= 80
