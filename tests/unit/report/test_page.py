"""The report's sentences, sums and rows; and its page as text: whole, escaped, the same from the same data."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from control_builders import a_run
from report_helpers import Finished, data
from report_ledger import keep, large_study, small_study

from lvjobs.control.inspect.report_data import report_data
from lvjobs.control.loop import open_session
from lvjobs.report.figures.attempts import NOTHING_RAN, burn_down, course, crowd, gantt, rows
from lvjobs.report.figures.palette import CAUSES, KINDS
from lvjobs.report.page.answer import StudyAnswer
from lvjobs.report.page.compose import key_figures
from lvjobs.report.page.grids import read_origin
from lvjobs.report.page.pieces import Page, Section
from lvjobs.report.page.write import as_json, render
from lvjobs.report.study_tables import budget_table
from lvjobs.study.config import load_study
from lvjobs.study.layout import StudyLayout
from lvjobs.study.words import Cause

pytestmark = pytest.mark.heavy

__all__ = ["data"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, data):
    return small_study(tmp_path_factory.mktemp("report") / "study", data)


def told(finished_or_root):
    root = getattr(finished_or_root, "layout", None)
    with open_session(load_study(root.root if root else finished_or_root), wait=1) as session:
        return report_data(session)


# -- sums ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return large_study(tmp_path_factory.mktemp("large") / "wide", 120)


def test_a_burn_down_ends_at_what_the_ledger_says_to_the_last_flop(study, wide):
    for each in (study, wide):
        found = told(each)
        budget = found["summary"].budget
        times, spent, left = course(found["spans"], budget)
        assert {kind: spent[kind][-1] for kind in KINDS} == {kind: budget[kind] for kind in KINDS}
        assert left[-1] == budget["limit"] - budget["spent"]
        assert budget["replayed"] > 0
        for kind in KINDS:
            assert spent[kind] == sorted(spent[kind])
        assert list(times) == sorted(times)


def test_what_does_not_count_does_not_burn(study):
    found = told(study)
    budget = {**found["summary"].budget, "counts_inference": False}
    *_, left = course(found["spans"], budget)
    assert left[-1] == budget["limit"] - budget["useful"] - budget["replayed"]


def test_an_attempt_is_charged_evenly_over_its_time():
    span = {"started": 100.0, "ended": 300.0, "flops": {"useful": 1000}, "cause": "completed", "run": "one"}
    other = {**span, "started": 200.0, "ended": 200.0, "flops": {"replayed": 7}}
    times, spent, left = course([span, other], {"limit": 5000, "counts_inference": True})
    assert list(zip(times, spent["useful"], strict=True)) == [(100, 0), (200, 500), (300, 1000)]
    assert spent["replayed"][-1] == 7
    assert left == [5000, 4500, 3993]
    assert burn_down([], {"limit": 1}).missing == NOTHING_RAN


def test_an_attempt_that_goes_on_is_there_until_the_last_pass(wide):
    found = told(wide)
    running = [span for span in found["spans"] if span["cause"] is None]
    assert running
    assert all(span["ended"] >= span["started"] for span in found["spans"])
    _, by_cause = crowd(found["spans"])
    assert "running" in by_cause


def test_attempts_are_counted_once_each_over_time(wide):
    spans = told(wide)["spans"]
    times, by_cause = crowd(spans)
    width = times[1] - times[0]
    seconds = sum(sum(values) for values in by_cause.values()) * width
    assert seconds == pytest.approx(sum(span["ended"] - span["started"] for span in spans))


def test_rows_are_of_the_runs_with_most_attempts_in_the_order_of_time(wide):
    spans = told(wide)["spans"]
    shown, left_out = rows(spans)
    assert (len(shown), left_out) == (40, 80)
    counts = [sum(span["run"] == run for span in spans) for run in shown]
    others = {span["run"] for span in spans} - set(shown)
    assert min(counts) >= max(sum(span["run"] == run for span in spans) for run in others)
    begins = [min(span["started"] for span in spans if span["run"] == run) for run in shown]
    assert begins == sorted(begins)


def test_each_attempt_is_one_bar_by_its_cause(study):
    spans = told(study)["spans"]
    chart = gantt(spans)
    marks = chart.panels[0].marks
    bars = {mark.key.name: len(mark.rows) for mark in marks}
    assert bars == {"preempted": len(spans) / 2, "completed": len(spans) / 2}
    assert "13 preempted" in chart.caption
    (first,) = {mark.start[0] for mark in marks if mark.key.name == "preempted"}
    assert datetime.fromtimestamp(86400 * first, timezone.utc) == datetime(2027, 1, 15, 8, tzinfo=timezone.utc)  # 1.8e9


def test_every_cause_has_a_look_that_no_other_has():
    assert {cause.value for cause in Cause} <= set(CAUSES)
    assert len(set(CAUSES.values())) == len(CAUSES)


# -- the page ------------------------------------------------------------------------------------------------------


def written(typed, root, *arguments):
    code, out, errors = typed("report", "--study", root, *arguments)
    assert (code, errors) == (0, "")
    return (root / "report" / "index.html").read_text(), out


def plots(page):
    """Return the parts of each drawing that can be pointed at: [key, from, to, height, words]."""
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def test_each_figure_of_the_published_study_has_its_counterpart(typed, study):
    page, _ = written(typed, study.layout.root)
    index = json.loads((study.layout.root / "report" / "report.json").read_text())
    assert index["missing"] == []
    assert {name.split("-")[1] for name in index["drawn"] if name.startswith("figure-")} == set("1234567")
    assert {"scores", "burn-down", "spent-by-stage", "attempts-over-time", "attempts-at-once"} <= set(index["drawn"])
    for name in ("persistence", "mean", "seasonal-naive", "var-8"):
        assert f">{name}</span>" in page
    assert "90 % of the samples" in page
    assert "lowest validation_loss" in page


@pytest.mark.parametrize("kind", ["Figure", "Table"])
def test_figures_and_tables_are_numbered_in_the_order_of_the_page(typed, study, kind):
    page, _ = written(typed, study.layout.root)
    heads = re.findall(r'<h\d class="name">(.*?)</h\d>', page)
    found = [int(number) for head in heads for number in re.findall(rf"{kind} (\d+)\b", head)]
    assert found == [*range(1, len(found) + 1)]
    assert len(found) > 3


def test_tables_lie_beside_it_as_markdown_and_latex(typed, study):
    written(typed, study.layout.root)
    tables = study.layout.root / "report" / "tables"
    assert {path.name for path in tables.iterdir()} == {
        f"table-{name}.{suffix}"
        for name in ("1-flops-of-a-step", "2-rank-and-rate", "3-context", "4-flops", "horizons")
        for suffix in ("md", "tex")
    } | {"comparisons.md", "comparisons.tex"}
    for path in tables.iterdir():
        assert ("\\toprule" in path.read_text()) == (path.suffix == ".tex")
    _, out, _ = typed("evaluate", "--table", "--study", study.layout.root)
    assert (tables / "table-2-rank-and-rate.md").read_text().strip() in out
    assert (tables / "table-3-context.tex").read_text().strip() in out
    summary = told(study)["summary"]
    assert budget_table(summary.budget, summary.runs).body("github") in (tables / "table-4-flops.md").read_text()


def test_equal_data_give_equal_bytes_and_a_report_typed_again_is_written_anew(typed, study, tmp_path):
    def undated(page):  # the page has the minute of its update, and a minute may end between two
        return re.sub(r"As of [^,]+, [0-9:]+ UTC, the last update", "", page)

    page = undated(written(typed, study.layout.root)[0])
    stray = study.layout.root / "report" / "tables" / "table-9-old.md"
    stray.write_text("of an earlier release")
    assert undated(written(typed, study.layout.root)[0]) == page
    assert not stray.exists()
    written(typed, study.layout.root, "--out", tmp_path / "elsewhere")
    assert undated((tmp_path / "elsewhere" / "index.html").read_text()) == page


def test_it_updates_the_study_first(typed, study):
    written(typed, study.layout.root)
    assert study.layout.summary.exists()


def test_a_directory_with_other_files_is_left_alone(typed, study, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    code, _, errors = typed("report", "--study", study.layout.root, "--out", tmp_path)
    assert code == 2
    assert "thesis.tex" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_json_says_what_was_drawn_and_what_not(typed, study):
    _, out = written(typed, study.layout.root, "--json")
    found = json.loads(out)
    assert (found["schema"], found["kind"], found["verdict"]) == (1, "lvjobs report", "open")  # of three series
    assert found["files"][0] == "index.html"


def test_provenance_names_attempt_checkpoint_code_and_versions(typed, study):
    page, _ = written(typed, study.layout.root)
    for words in ("000002-00000040", "NVIDIA A100-SXM4-80GB", "c0de", "node2", study.runs[0].fingerprint[:8]):
        assert words in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [([], ""), (["held"], "1 held"), (["pruned", "pruned"], "2 pruned"), (["pruned", "held"], "1 held, 1 pruned")],
)
def test_runs_that_are_not_completed_have_their_reason_beside_the_number(study, changes, words):
    found = told(study)
    runs = list(found["summary"].runs)
    assert len(runs) > len(changes)
    for place, what in enumerate(changes):
        state = {"state": "held"} if what == "held" else {"state": "paused", "held_for": "pruned"}
        runs[place] = replace(runs[place], **state)
    rest = [replace(run, state="completed", held_for="") for run in runs[len(changes) :]]
    summary = replace(found["summary"], runs=runs[: len(changes)] + rest)
    first = key_figures(summary, found["spans"])[0]
    assert (first.value, first.detail) == (f"{len(rest):,} of {len(runs):,}", words)


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too' %{x}"


def test_what_others_wrote_is_text_and_never_markup(typed, tmp_path, data):
    finished = Finished(tmp_path / "hostile", data)
    finished.layout.root.mkdir()
    (finished.layout.root / "study.toml").write_text(f"# {HOSTILE}\n")
    finished.trained("one", stage="stage1")
    keep(finished)
    with open_session(load_study(finished.layout.root), wait=1) as session:
        with session.ledger.transaction() as transaction:
            (run,) = transaction.runs()
            transaction.update_run(run.id, state="held", reason=HOSTILE)
            attempts = transaction.attempts()
            transaction.save_attempts([replace(attempts[0], evidence=HOSTILE, host=HOSTILE)])
    page, _ = written(typed, finished.layout.root)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert any(HOSTILE in words for spots in plots(page) for *_, words in spots)  # page.js sets it as text
    assert "innerHTML" not in page
    assert page.count("</html>") == 1


def test_a_plot_cannot_end_the_script_that_holds_it():
    text = str(as_json([[0, 1, 1, 1, f"{HOSTILE}\u2028"]]))
    assert "<" not in text
    assert json.loads(text)[0][4] == f"{HOSTILE}\u2028"


def test_a_study_that_was_moved_shows_its_runs_evaluations_and_says_what_it_cannot_read(typed, tmp_path, data):
    finished = Finished(tmp_path / "before", data)
    finished.layout.root.mkdir()
    (finished.layout.root / "study.toml").write_text("")
    run = finished.trained("one")
    made = finished.evaluated(run)
    finished.runs[-1] = replace(made, after=run.id)
    keep(finished)
    finished.layout.root.rename(tmp_path / "after")
    moved = tmp_path / "after"
    page, _ = written(typed, moved)
    assert "the base model was not evaluated on the series of one, whose MAE is" in page
    scores = moved / "checkpoints" / made.name / "final" / "result" / "scores.json"
    changed = json.loads(scores.read_text())
    changed["scores"]["overall"]["mae"] *= 2
    scores.write_text(json.dumps(changed))
    page, out = written(typed, moved)
    assert "they do not belong together" in out
    assert "figure-2-loss-stage1" in page


def test_a_study_of_another_task_has_stages_curves_budget_and_attempts(typed, wide):
    page, _ = written(typed, wide)
    index = json.loads((wide / "report" / "report.json").read_text())
    assert {"figure-2-loss-wide", "burn-down", "attempts-over-time"} <= set(index["drawn"])
    assert "Which settings did best by the stages" in page
    assert "nats per token" not in page
    for each in index["missing"]:
        assert "lvjobs" in each["why"] or "data" in each["why"], each
    assert "12 runs with the lowest validation loss of 120" in page
    assert "Show all 120 rows" in page
    assert "a layer has no such width" in page


def test_a_study_in_which_nothing_ran_says_for_each_section_what_to_type(typed, tmp_path):
    (tmp_path / "study.toml").write_text("")
    page, out = written(typed, tmp_path)
    index = json.loads((tmp_path / "report" / "report.json").read_text())
    assert index["drawn"] == []
    assert index["files"] == ["index.html"]
    assert page.count("Not drawn: ") == len(index["missing"])
    assert "Not answered yet" in out
    assert plots(page) == []


def test_links_in_the_page_lead_somewhere(typed, study):
    page, _ = written(typed, study.layout.root)
    names = re.findall(r'\bid="([^"]+)"', page[: page.index("</main>")])
    assert len(names) == len(set(names))
    for target in re.findall(r'href="#([^"]+)"', page):
        assert target in names
    for file in re.findall(r'href="(tables/[^"]+)"', page):
        assert (study.layout.root / "report" / file).is_file()


def test_no_address_of_the_network_is_in_what_it_loads(typed, study):
    page, _ = written(typed, study.layout.root)
    loads = re.findall(r'(?:src|href)="(https?:[^"]*)"', page[: page.index("<script>")])
    assert loads == []
    assert "default-src 'none'" in page


def test_it_needs_no_torch_and_only_commands_that_draw_load_matplotlib(tmp_path):
    (tmp_path / "study.toml").write_text("")
    for arguments, wanted in ((["report"], True), (["figures"], True), (["status"], False)):
        code = "import sys; from lvjobs.cli import cli; cli(sys.argv[1:], standalone_mode=False); print('LOADED', *sys.modules)"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        loaded = {name.split(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}
        assert ("matplotlib" in loaded) == wanted, arguments
        assert loaded & {"torch", "transformers", "peft"} == set(), arguments


def test_where_packages_were_found_is_told_with_the_versions(tmp_path):
    layout = StudyLayout(tmp_path)
    run = a_run(config={"task": "toy_task:train"})
    journals = layout.run(run.name).journals
    journals.mkdir(parents=True)
    for number, path in enumerate(["/site/torch", "/site/torch", ""], 1):
        fields = {"kind": "start", "time": 1.0, "versions": {"torch": "2.13.0"}, "python_path": path}
        software = {
            "kind": "software",
            "time": 1.0,
            "versions": {"torch": "2.13.0", "numpy": "2.0"},
            "commit": "a" * 40,
        }
        lines = [{"kind": "claim", "time": 1.0}, fields, {**software, "dirty": number == 3}]
        (journals / f"{number:06d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    origin = read_origin(layout, run)
    assert origin.versions == {("torch", "2.13.0"): 3, ("numpy", "2.0"): 3, ("PYTHONPATH", "/site/torch"): 2}
    assert origin.commit == "aaaaaaaaaaaa (with changes)", "that of the last attempt"


def test_a_piece_that_no_macro_draws_fails():
    page = Page("t", StudyAnswer("q", ()), (), [Section("s", "S", [("not", "a piece")])], "now", "0")
    with pytest.raises(KeyError, match="tuple"):
        render(page)
    assert "<p>a sentence</p>" in render(replace(page, sections=[Section("s", "S", ["a sentence"])]))
