"""`lvjobs status`: its filters, orders and formats; tags and notes; and `lvjobs show`."""

import csv
import io
import json
import os
import re

import pytest
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import scene_task

from lvjobs.api.select import SORTS, RunFilter
from lvjobs.errors import UsageError
from lvjobs.report.terminal.status_table import own_parts
from lvjobs.study.run_names import find_name


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A study with a completed run `old`, a cancelled one `gone`, and an active one `new`."""
    made = typed_scene(tmp_path, monkeypatch, PRICED + STAGES)
    scene_task(made)
    return made


@pytest.fixture
def three(scene, typed):
    typed("submit", "run", "--name", "old")
    scene.go(300)
    typed("submit", "run", "--name", "gone", "--set", "width=8")
    typed("cancel", "gone")
    typed("submit", "run", "--name", "new", "--set", "width=16")
    return scene


def logged(scene, job, name="one"):
    """Write a job's log, one line with its id; return the file."""
    path = scene.study.layout.log_directory(name) / f"{job.id}.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"printed by {job.id}\n")
    return path


def names(typed, *options):
    code, out, err = typed("status", "--json", *options)
    assert code == 0, err
    return [run["name"] for run in json.loads(out)["runs"]]


def test_runs_are_chosen_by_state_and_tag(three, typed):
    assert names(typed) == ["old", "gone", "new"]
    assert names(typed, "--state", "completed", "--state", "cancelled") == ["old", "gone"]
    assert typed("tag", "baseline", "old", "new")[:2] == (0, "old: tag baseline added\nnew: tag baseline added\n")
    assert names(typed, "--tag", "baseline") == ["old", "new"]
    assert names(typed, "--tag", "baseline", "--state", "completed") == ["old"]
    assert typed("tag")[1] == "baseline: old, new\n"
    assert typed("tag", "--remove", "baseline", "old")[0] == 0
    assert names(typed, "--tag", "baseline") == ["new"]
    code, out, _ = typed("status", "--state", "held")
    assert (code, out) == (0, "0 of 3 runs match\n")


def test_a_tag_chooses_the_runs_of_other_commands(three, typed):
    typed("tag", "weak", "new")
    code, out, err = typed("cancel", "--tag", "weak")
    assert (code, err) == (0, "")
    assert three.state("new") == "cancelled"
    assert "lvjobs retry new" in out
    assert typed("cancel")[0] == 2, "no run is named"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["two words", "old"], "use up to 32 letters"),
        (["fine"], "name the runs that get the tag fine"),
        (["--remove", "fine", "old"], "old does not have the tag fine"),
        (["fine", "nobody"], "no run 'nobody' in this study"),
    ],
)
def test_a_tag_that_cannot_be_given_changes_nothing(three, typed, words, said):
    code, _, err = typed("tag", *words)
    assert (code, said in err) == (2, True)
    assert all(json.loads(run["tags"]) == [] for run in three.rows("runs"))


def test_tags_of_a_completed_run_stay_with_it(three, typed):
    typed("tag", "best", "old")
    typed("resume")
    assert names(typed, "--tag", "best") == ["old"]


def test_show_has_the_tags(three, typed):
    assert not re.search(r"^  tags ", typed("show", "old")[1], re.MULTILINE)
    typed("tag", "best", "old")
    typed("tag", "published", "old")
    assert re.search(r"^  tags +best, published$", typed("show", "old")[1], re.MULTILINE)


def test_a_note_is_part_of_the_history(three, typed):
    assert typed("note", "old", "loss spike", "at step 9")[:2] == (0, "old: note added\n")
    assert "note: loss spike at step 9" in typed("status", "old")[1]
    assert "note: loss spike at step 9" in typed("show", "old")[1]
    assert typed("note", "old", " ")[0] == 2
    assert typed("note", "old", "x" * 1001)[0] == 2


def test_the_newest_and_the_active_runs_are_found(three, typed):
    assert names(typed, "--sort", "newest") == ["new", "gone", "old"]
    assert names(typed, "--sort", "name") == ["gone", "new", "old"]
    assert names(typed, "--since", "9000d") == ["old", "gone", "new"]
    code, _, err = typed("status", "--since", "12")
    assert (code, "write a time with its unit, such as 30m, 12h or 2d" in err) == (2, True)


def test_since_keeps_open_runs_and_those_that_were_declared_or_ended_later():
    rows = [
        {"name": "over", "stage": "s", "state": "completed", "created": 10, "ended": 20},
        {"name": "ended later", "stage": "s", "state": "completed", "created": 10, "ended": 40},
        {"name": "declared later", "stage": "s", "state": "cancelled", "created": 35, "ended": None},
        {"name": "open", "stage": "s", "state": "held", "created": 1, "ended": 2},
    ]
    assert [row["name"] for row in RunFilter(since=30).apply(rows)] == ["ended later", "declared later", "open"]


@pytest.mark.parametrize("key", SORTS)
def test_unknown_values_are_sorted_last(key):
    field, greatest_first = SORTS[key]
    low, high = ("a", "b") if field in ("name", "state") else (1, 2)
    rows = [{field: value, "stage": "s", "state": "held"} for value in (low, None, high)]
    if field == "state":
        rows = [{**row, "state": value} for row, value in zip(rows, (low, None, high), strict=True)]
    found = [row[field] for row in RunFilter(sort=key).apply(rows)]
    assert found == ([high, low, None] if greatest_first else [low, high, None])


def test_csv_has_every_field_and_a_line_for_each_run(three, typed):
    code, out, _ = typed("status", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["name"] for row in rows] == ["old", "gone", "new"]
    assert rows[0].keys() >= {"state", "step", "validation_loss", "flops", "tags", "created", "ended"}
    assert "curve" not in rows[0]


def test_wide_has_all_columns_on_any_terminal(three, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    typed("tag", "best", "old")
    _, out, _ = typed("status", "-o", "wide")
    head = next(line for line in out.splitlines() if line.startswith("run "))
    assert {"state", "step", "expected", "FLOPs", "attempts", "job", "tags"} <= {*head.split()}


@pytest.mark.parametrize(
    "words",
    [
        ["status", "-w", "--state", "held"],
        ["status", "old", "--sort", "name"],
        ["status", "--json", "-o", "wide"],
        ["logs", "old", "-f", "--all"],
        ["logs", "old", "--attempt", "1", "--all"],
        ["logs", "old", "--since", "yesterday"],
        ["logs", "old", "--attempt", "7"],
    ],
    ids=" ".join,
)
def test_options_that_would_be_ignored_are_refused(three, typed, words):
    code, out, err = typed(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_show_has_settings_files_attempts_cost_and_history(three, typed):
    code, out, _ = typed("show", "old")
    assert code == 0
    found = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert ["task", "toy_task:priced"] in found
    assert ["steps", "12"] in found
    assert ["width", "4"] in found
    assert ["profile", "lab"] in found
    assert any(row[:2] == ["directory", str(three.study.layout.run("old").root)] for row in found)
    assert any(row[:2] == ["attempt", "1"] and "completed:" in row for row in found)
    assert any(row[0] == "spent" for row in found)
    (three.study.layout.run("old").final / "adapter").mkdir(parents=True)
    log = logged(three, three.job("old"), "old")
    shown = json.loads(typed("show", "old", "--json")[1])
    assert shown["sections"]["files"]["log"] == str(log)
    assert shown["sections"]["files"]["adapter"] == str(three.study.layout.run("old").final / "adapter")
    assert shown["run"]["name"] == "old"
    assert shown["sections"]["settings"]["width"] == "4"
    assert shown["story"][0]["kind"] == "declared"


def test_names_are_shown_without_what_all_runs_share_and_such_a_name_is_found():
    whole = [
        f"stage1-r{rank}-lr{rate}-c512-s0-{end}" for rank, rate, end in ((2, "1e-05", "aaaa"), (4, "1e-04", "bbbb"))
    ]
    short = own_parts(whole, ["stage1"] * 2)
    assert short == ["r2-lr1e-05-aaaa", "r4-lr1e-04-bbbb"]
    assert [find_name(name, whole) for name in short] == whole
    with pytest.raises(UsageError, match="no run"):
        find_name("r4-lr1e-05-bbbb", whole)


@pytest.mark.parametrize(
    "whole",
    [["stage1-r2-aaaa"], ["first", "second-one"], ["a-x", "b-x"], ["s-one", "s-two"]],
    ids=["alone", "of two forms", "one end", "one part"],
)
def test_names_that_cannot_be_shortened_stay_as_they_are(whole):
    assert own_parts(whole, ["s"] * len(whole)) == whole


def test_options_of_an_open_run_that_would_have_no_effect_are_refused(three, typed):
    code, _, err = typed("submit", "run", "--name", "new", "--set", "width=16", "--cpus", "3")
    assert (code, "new already exists" in err, "cpus = 3 would have no effect" in err) == (2, True, True)


def test_a_run_that_waits_after_a_second_kill_says_when_it_is_submitted_again(scene, typed):
    typed("submit", "run", "--name", "one", "--set", "steps=40")
    scene.cluster.kill(scene.reach(6).id)
    scene.make_pass()
    scene.cluster.kill(scene.reach(8).id)
    code, out, _ = typed("status")
    assert code == 0
    assert re.search(r"^one: killed; lvjobs submits it again after \d\d:\d\d$", out, re.MULTILINE), out


def test_show_says_how_long_an_attempt_ran_not_when_its_end_was_seen(scene, typed):
    typed("submit", "run", "--name", "one", "--set", "steps=40")
    scene.cluster.kill(scene.reach(20).id)
    scene.cluster.advance(3600)
    out = typed("show", "one")[1]
    assert re.search(r"attempt 1 .* for (\d+) s, steps 1 to 20; killed", out), out


def test_options_of_a_stage_that_has_begun_are_refused_and_those_of_a_later_one_are_taken(scene, typed):
    assert typed("sweep", "first")[0] == 0
    for words in (["sweep", "first", "--cpus", "3"], ["sweep", "first", "--time-limit", "3h"]):
        code, _, err = typed(*words)
        assert (code, "would have no effect" in err) == (2, True), err
    assert typed("sweep", "first")[0] == 0
    assert typed("sweep", "all", "--cpus", "3")[0] == 0
    scene.go(300)
    typed("status")
    cpus = {run["stage"]: json.loads(run["resources"]).get("cpus", 1) for run in scene.rows("runs")}
    assert cpus == {"first": 1, "second": 3}


@pytest.fixture
def twice(scene, typed):
    """The run `one`, killed once and training again; its two jobs, each with a log."""
    typed("submit", "run", "--name", "one", "--set", "steps=40")
    scene.cluster.kill(scene.reach(6).id)
    scene.make_pass()
    scene.reach(8)
    scene.make_pass()
    first, second = scene.jobs("one")
    return scene, first, second


def test_logs_shows_the_log_of_one_attempt_of_all_and_of_recent_ones(twice, typed):
    scene, *jobs = twice
    old, new = (logged(scene, job) for job in jobs)
    first, second = old.read_text(), new.read_text()
    assert typed("logs", "one")[:2] == (0, second)
    assert typed("logs", "one", "--attempt", "1")[:2] == (0, first)
    assert typed("logs", "one", "--attempt", "2")[:2] == (0, second)
    for words in (("--all",), ("--since", "1h")):
        assert typed("logs", "one", *words)[:2] == (0, first + second)
    os.utime(old, (0, 0))
    assert typed("logs", "one", "--since", "1h")[:2] == (0, second)


def test_the_id_of_an_earlier_job_names_its_run(twice, typed):
    scene, first, second = twice
    logged(scene, second)
    code, out, err = typed("logs", first.id)
    assert (code, out) == (0, f"printed by {second.id}\n"), err
    assert typed("show", first.id)[1].startswith("one: ")
    assert typed("logs", "9999")[0] == 2


def test_a_job_id_names_its_run_and_a_stage_its_runs(scene, typed):
    typed("sweep", "first")
    typed("submit", "run", "--name", "apart")
    scene.make_pass()
    stage = sorted(run["name"] for run in scene.rows("runs") if run["stage"] == "first")
    for name in (stage[0], "apart"):
        for command in ("why", "show", "status"):
            code, out, err = typed(command, scene.job(name).id)
            assert (code, out.startswith(name)) == (0, True), (command, out, err)
    out = typed("status", "first")[1]
    assert [name in out for name in (*stage, "apart")] == [True, True, False]


def test_status_as_json_is_json_where_the_cluster_is_not_reachable(three, typed):
    three.cluster.absent = "Slurm is not reachable from laptop"
    code, out, _ = typed("status", "--json")
    assert code == 0
    assert [three.cluster.absent in problem for problem in json.loads(out)["problems"]] == [True]
