"""docs/science.md has the results that are recorded, and only splits that are complete are recorded."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def science():
    spec = importlib.util.spec_from_file_location("science", ROOT / "benchmarks" / "science.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def errors(value):
    return {"value": value, "low": value / 2, "high": 2 * value}


def row(name, kind, value):
    return {"name": name, "kind": kind, **{key: errors(value) for key in ("mae", "mse", "rmse", "median_mae")}}


def pair(other, difference, p, verdict, series=200):
    each = {"difference": difference, "low": difference - 0.01, "high": difference + 0.01, "skill": 0.5}
    each = each | {"p_corrected": p, "verdict": verdict}
    if series < 20:
        each = each | {"low": None, "high": None, "p_corrected": None, "verdict": "untested"}
    measures = dict.fromkeys(("mae", "mse", "median"), each)
    return {"model": "a", "other": other, "series": series, "seeds": 3, "lower_on": 120, "p_rank": 0.03, **measures}


def tables(names, series=200):
    rows = [row(name, "final", value) for name, value in zip(names, (0.1, 0.2, 0.3), strict=False)]
    rows += [row("zero-shot raw", "zero-shot", 0.4), row("var-8", "baseline", 0.5), row("ode", "baseline", 0.001)]
    pairs = [
        pair("zero-shot raw", -0.2, 0.012, "lower", series),
        pair("var-8", -0.3, 0.4, "unclear", series),
        pair("ode", 0.2, 0.00001, "higher", series),
    ]
    notes = ["parroting: a history is too short.", "In brackets: 95 %."]
    return [
        {"title": "Table 3: final runs", "circumstances": "200 series held out", "rows": rows, "notes": notes},
        {"title": "Paired comparisons", "circumstances": "", "rows": pairs, "notes": []},
    ]


THREE = ["a-s0", "a-s1", "a-s2"]
OVER_SEEDS = {"mae": [0.05, 0.5], "mse": [0.05, 0.5], "median": [0.05, 0.5]}


def section(science, split, found):
    return science.section(split, {**science.recorded(split, found), "intervals": OVER_SEEDS})


def test_the_page_has_the_recorded_results(science):
    page = science.PAGE.read_text(encoding="utf-8")
    recorded = json.loads(science.RESULTS.read_text(encoding="utf-8")) if science.RESULTS.exists() else {}
    assert science.with_results(page, recorded) == page, "type: python benchmarks/science.py page"
    for split in recorded:
        assert (science.IMAGES / f"science-{split}.svg").exists()


def test_no_section_stands_without_results(science):
    page = science.with_results("a\n<!-- results -->\nold\n<!-- end -->\nb\n", {})
    assert page == "a\n<!-- results -->\n<!-- end -->\nb\n"
    found = {**science.recorded("last200", tables(THREE)), "intervals": OVER_SEEDS}
    page = science.with_results(page, {"last200": found})
    assert page.count("### ") == 1
    assert science.with_results(page, {"last200": found}) == page


def test_each_figure_has_its_interval_its_n_and_its_test(science):
    text = section(science, "last200", tables(THREE))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_name = {line[0]: line[1:] for line in cells if not line[0].startswith("LoRA beside")}
    assert by_name["LoRA, mean of 3 seeds"] == [".200 [.0500, .500]"] * 3
    assert by_name["LoRA, s.d. over seeds"] == [".100"] * 3
    assert by_name["LoRA, seed 1"] == [".200 [.100, .400]"] * 3
    compared = {line[0]: line[1:] for line in cells if len(line) == 11}
    assert compared["zero-shot raw"][:3] == ["-.200 [-.210, -.190]", "+.500", ".012"]
    assert compared["ode (knows the law)"][2] == "< .001"
    assert compared["var-8"][-2:] == ["120 of 200", ".03"]
    assert text.count("bootstrap over n = 200 series") == 2
    assert "corrected for 9 tests" in text
    assert "parroting: a history is too short." in text
    assert (
        "LoRA by MAE: a lower error than zero-shot raw; a higher error than ode (knows the law); "
        "not shown to differ from var-8."
    ) in text


@pytest.mark.parametrize(
    ("split", "words"),
    [("last200", "chosen on none of them."), ("random", "166 of them are of"), ("k-fold", "800 of them are of")],
)
def test_each_section_says_where_its_systems_lie(science, split, words):
    """166 was counted in the evaluations of the recorded study."""
    names = [f"{name} (5 folds)" for name in THREE] if split == "k-fold" else THREE
    assert words in section(science, split, tables(names))


def test_a_split_that_is_not_evaluated_yet_does_not_end_the_recording(science, tmp_path, monkeypatch):
    for split in ("last200", "random"):
        (tmp_path / split).mkdir()
        for name in ("runs.db", "data.h5"):
            (tmp_path / split / name).write_bytes(b"")

    def lvjobs(*words, capture):
        if words[-1].endswith("last200"):
            raise SystemExit(2)
        return json.dumps({"tables": tables(THREE)})

    monkeypatch.setattr(science, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(science, "lvjobs", lvjobs)
    monkeypatch.setattr(science, "over_seeds", lambda *_: OVER_SEEDS)
    science.record(tmp_path)
    assert list(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))) == ["random"]


def test_too_few_series_are_not_tested(science):
    text = section(science, "last200", tables(THREE, series=4))
    assert "LoRA by MAE: not tested beside zero-shot raw, var-8, ode (knows the law)." in text


@pytest.mark.parametrize(
    ("split", "found", "why"),
    [
        ("last200", [], "nothing trained was evaluated"),
        ("last200", tables(THREE)[:1], "nothing trained was evaluated"),
        ("last200", tables(THREE[:2]), "2 of 3 seeds"),
        ("k-fold", tables(["a (5 folds)", "b (5 folds)", "c (4 folds)"]), "c (4 folds)"),
    ],
)
def test_a_split_that_is_not_complete_is_left_out(science, split, found, why):
    assert why in science.recorded(split, found)


def test_a_split_without_its_base_model_is_left_out(science):
    table, pairs = tables(THREE)
    table["rows"] = [each for each in table["rows"] if each["kind"] != "zero-shot"]
    assert science.recorded("random", [table, pairs]) == "the base model is not evaluated"


def test_a_split_that_is_recorded_stays_when_another_is_recorded(science, tmp_path, monkeypatch):
    (tmp_path / "random").mkdir()
    for name in ("runs.db", "data.h5"):
        (tmp_path / "random" / name).write_bytes(b"")
    file = tmp_path / "results.json"
    file.write_text('{"last200": "as before"}', encoding="utf-8")
    monkeypatch.setattr(science, "RESULTS", file)
    monkeypatch.setattr(science, "lvjobs", lambda *_, **__: json.dumps({"tables": tables(THREE)}))
    monkeypatch.setattr(science, "over_seeds", lambda *_: OVER_SEEDS)
    science.record(tmp_path)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert list(found) == ["last200", "random"]
    assert found["last200"] == "as before"
    assert len(found["random"]["rows"]) == 6


def test_a_study_of_another_recipe_is_not_continued(science, tmp_path):
    root = tmp_path / "random"
    root.mkdir()
    (root / "study.toml").write_text("[train]\nsteps = 1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="is not study"):
        science.run(tmp_path, Path(__file__), "random", smoke=True)


def test_data_that_are_not_there_begin_no_study(science, tmp_path):
    with pytest.raises(SystemExit, match="is no file"):
        science.run(tmp_path, tmp_path / "missing", "random", smoke=True)
    assert not (tmp_path / "random").exists()


def test_run_types_three_commands_and_names_the_runs_of_the_split(science, tmp_path, monkeypatch):
    typed = []
    status = {"runs": [{"name": "a-s0", "stage": "random"}, {"name": "eval-zero-shot", "stage": "evaluate"}]}

    def lvjobs(*words, capture=False):
        typed.append(words)
        return json.dumps(status) if capture else ""

    monkeypatch.setattr(science, "lvjobs", lvjobs)
    (tmp_path / "file.h5").touch()
    for _ in range(2):  # typed again, it continues
        science.run(tmp_path, tmp_path / "file.h5", "random", smoke=False)
    sweep, base, _, trained = typed[:4]
    assert sweep[:2] == ("sweep", "random")
    assert "split=random" in base
    assert trained[:2] == ("evaluate", "a-s0")
    assert {*science.DECODING} <= {*base} & {*trained}
    assert (tmp_path / "random" / "data.h5").is_symlink()
    assert typed[4:] == typed[:4]
