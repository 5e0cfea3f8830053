"""Tables 2 and 3: which runs stand in which, what is never compared, and that the figures are those of the scores."""

import json

import pytest
from report_helpers import SYSTEMS, Finished, data

from lvjobs.records.run_files import Done
from lvjobs.report.evaluated import evaluated, groups
from lvjobs.report.numbers import short
from lvjobs.report.study_tables import study_tables

pytestmark = pytest.mark.heavy

__all__ = ["data"]


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


@pytest.fixture(scope="module")
def study(tmp_path_factory, data):
    """Two by two cells, two more contexts for the best of them, a final run, the base model."""
    finished = Finished(tmp_path_factory.mktemp("study"), data)
    for rank in (2, 8):
        for rate in (1e-3, 4e-3):
            run = finished.trained(f"s1-r{rank}-{rate:g}", lora_rank=rank, learning_rate=rate)
            finished.evaluated(run, noise=0.2 / rank)
    for context in (768, 128):
        run = finished.trained(f"s2-c{context}", "stage2", lora_rank=8, learning_rate=4e-3, context_length=context)
        finished.evaluated(run, noise=0.01)
    final = finished.trained("final", "train", steps=120, lora_rank=8, learning_rate=4e-3, context_length=768)
    finished.evaluated(final, noise=0.001)
    finished.evaluated()
    return finished


def tables_of(finished):
    return study_tables(evaluated(finished.layout, finished.runs))


def rows(table, kind):
    return [row for row in table.values if row["kind"] == kind]


def test_a_runs_cell_and_context_decide_where_it_stands(study):
    two, three = tables_of(study)
    assert [(row["lora_rank"], row["learning_rate"], row["steps"]) for row in rows(two, "run")] == [
        (2, 1e-3, 40),
        (2, 4e-3, 40),
        (8, 1e-3, 40),
        (8, 4e-3, 40),
    ]
    # 512 is reused from the first stage.
    assert [(row["context_length"], row["name"]) for row in rows(three, "run")] == [
        (128, "s2-c128"),
        (512, "s1-r8-0.004"),
        (768, "s2-c768"),
    ]
    assert [row["name"] for row in rows(three, "final")] == ["final"]
    for table in (two, three):
        assert [row["name"] for row in rows(table, "zero-shot")] == ["zero-shot raw"]
        assert {"persistence", "var-8", "seasonal-naive"} <= {row["name"] for row in rows(table, "baseline")}


def test_figures_are_those_of_the_scores(study):
    kept = {each.subject: each.scores["scores"] for each in evaluated(study.layout, study.runs)}
    (two, _) = tables_of(study)
    for row in rows(two, "run"):
        scores = kept[row["name"]]
        assert row["rmse"] == {"value": scores["overall"]["rmse"], **scores["intervals"]["rmse"]}
        assert row["median_mse"] == {"value": scores["median_mse"], **scores["intervals"]["median_mse"]}
    printed = dict(zip(two.headers, two.rows[0], strict=True))
    value, low, high = (short(rows(two, "run")[0]["mae"][key]) for key in ("value", "low", "high"))
    assert printed["MAE"] == f"{value} [{low}, {high}]"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"systems": SYSTEMS[:2]}, "2 series held out by last200"),
        ({"prompt": "instruct"}, "prompt instruct"),
        ({"samples": 3}, "medians of 3 samples"),
    ],
)
def test_what_was_evaluated_otherwise_is_never_in_the_same_table(finished, other, words):
    for rank in (2, 4):
        run = finished.trained(f"r{rank}", lora_rank=rank)
        finished.evaluated(run)
        if rank == 4:
            finished.evaluated(run, **other)
    tables = tables_of(finished)
    assert [table.title[:7] for table in tables] == ["Table 2", "Table 3"]
    assert len(rows(tables[0], "run")) == 2
    assert [row["name"] for row in rows(tables[1], "final")] == ["r4"]
    assert words not in tables[0].circumstances
    assert words in tables[1].circumstances
    for table in tables:
        assert any("have their own table" in note for note in table.notes)


def test_what_was_asked_for_by_hand_is_in_no_table(finished):
    finished.evaluated(finished.trained("one"), split="asked", systems=[3])
    assert tables_of(finished) == []


def test_the_same_evaluation_in_other_batches_counts_once(finished):
    run = finished.trained("one")
    assert finished.evaluated(run).name != finished.evaluated(run, batch=1).name
    ((only,),) = groups(evaluated(finished.layout, finished.runs))
    assert only.subject == "one"


def test_seeds_stand_side_by_side(finished):
    for seed in (0, 1):
        for rank in (2, 4):
            finished.evaluated(finished.trained(f"r{rank}-s{seed}", seed=seed, lora_rank=rank))
    (two,) = tables_of(finished)
    assert [(row["lora_rank"], row["seed"]) for row in rows(two, "run")] == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert two.headers[1:5] == ("rank", "learning rate", "seed", "steps")


def test_other_steps_are_another_comparison_and_early_stopping_is_told(finished):
    for rank, steps in ((2, 40), (4, 40), (8, 50)):
        finished.evaluated(finished.trained(f"r{rank}", steps=steps, lora_rank=rank))
    finished.layout.run("r4").done.write_text(Done(1, 30, "000001-00000030", 1.0).to_json())
    two, three = tables_of(finished)
    assert [(row["name"], row["steps"]) for row in rows(two, "run")] == [("r2", 40), ("r4", 30)]
    assert [(row["name"], row["steps"]) for row in rows(three, "final")] == [("r8", 50)]


def test_markdown_and_latex_have_the_same_cells(study):
    for table in tables_of(study):
        markdown, latex = table.render("github"), table.render("latex_booktabs")
        for row in table.rows:
            for cell in row:
                assert cell in markdown
                assert cell in latex
        assert markdown.startswith(f"{table.title}. 3 series held out by last200")
        assert all(line.startswith("%") for line in latex.split("\\begin")[0].strip().splitlines())
        assert "\\toprule" in latex


def test_on_a_terminal_one_figure_alone_has_its_interval(study):
    for table in tables_of(study):
        plain, whole = table.narrow().render("simple").splitlines(), table.render("github").splitlines()
        rows = [line for line in plain if line.startswith(tuple(row[0] for row in table.rows))]
        assert len(rows) == len(table.rows)
        assert {line.count("[") for line in rows} == {1}
        assert {line.count("[") for line in whole if line.startswith("|")} == {0, 5}
        assert [line.split()[-1] for line in rows] == [row[-1].partition(" ")[0] for row in table.rows]


def name_weights(finished, run, weights):
    """Write into an evaluation's scores which base weights made it, as evaluations of this release do."""
    path = finished.layout.run(run.name).final / "result" / "scores.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": weights}))


def test_a_base_model_with_other_weights_than_a_run_is_noted(finished):
    made = {name: finished.evaluated(finished.trained(name, steps=steps)) for name, steps in (("same", 40), ("no", 50))}
    made["base"] = finished.evaluated()
    made["of another base"] = finished.evaluated(finished.trained("of another base", steps=50, scale_alpha=0.5))
    assert not any("other weights" in note for table in tables_of(finished) for note in table.notes)
    for name, weights in (("base", "a"), ("same", "a"), ("no", "b"), ("of another base", "b")):
        name_weights(finished, made[name], weights)
    ((said,),) = [[note for note in table.notes if "other weights" in note] for table in tables_of(finished)]
    assert said.startswith("zero-shot raw was forecast with other weights of tiny than no. ")


def test_what_was_validated_on_scored_series_is_said(finished):
    for name, held in (("held-out", None), ("looked", 0)):
        finished.evaluated(finished.trained(name, validation_systems=held))
    (said,) = {note for table in tables_of(finished) for note in table.notes if "scored series" in note}
    assert "validation_systems = 0): looked. If" in said
