"""The report's answer: its words for every finding, and that they are those of the paired errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
from report_helpers import Finished, a_material, data, rewrite_scores

from lvjobs.forecasting.comparison import MEASURES, Comparison, Difference, holm
from lvjobs.forecasting.data import make_dataset
from lvjobs.records.summary import RunStatus, StageStatus, read_row
from lvjobs.report.chosen import choose
from lvjobs.report.comparisons import Row, compare_all
from lvjobs.report.page.answer import against_baselines, against_zero_shot, answer_forecasts, answer_stages

pytestmark = pytest.mark.heavy

__all__ = ["data"]


def row(mae, mse=None, median=None, *, other="zero-shot raw", kind="zero-shot", series=200, corrected=None):
    """A row from (own, other, low, high, p) of each measure; `corrected` p-values, if they are others."""
    given = dict(zip(MEASURES, (mae, mse or mae, median or mae), strict=True))
    measures = {name: Difference(*values) for name, values in given.items()}
    found = Comparison(series, (1, 1), measures, wins=120, ties=0, p_rank=0.5)
    ps = {name: each.p for name, each in measures.items()} if corrected is None else dict.fromkeys(MEASURES, corrected)
    return Row("tuned", other, kind, found, ps)


LOWER = (0.05, 0.06, -0.015, -0.005, 0.001)
HIGHER = (0.07, 0.06, 0.005, 0.015, 0.001)
UNCLEAR = (0.059, 0.06, -0.004, 0.002, 0.6)


NOT_SHOWN = "Not shown: no difference from the base model is shown in the MAE, the MSE or the median MAE over series."


@pytest.mark.parametrize(
    ("mae", "mse", "median", "words"),
    [
        (LOWER, LOWER, LOWER, "Yes: fine-tuning lowers the MAE, the MSE and the median MAE over series."),
        (
            LOWER,
            UNCLEAR,
            LOWER,
            "In part: fine-tuning lowers the MAE and the median MAE over series; no difference is shown in the MSE.",
        ),
        (LOWER, HIGHER, LOWER, "Mixed: fine-tuning lowers the MAE and the median MAE over series and raises the MSE."),
        (
            UNCLEAR,
            HIGHER,
            LOWER,
            ("Mixed: fine-tuning lowers the median MAE over series and raises the MSE; no difference is shown in the "
            "MAE."),
        ),
        (HIGHER, HIGHER, HIGHER, "No: fine-tuning raises the MAE, the MSE and the median MAE over series."),
        (HIGHER, UNCLEAR, UNCLEAR, "No: fine-tuning raises the MAE; no difference is shown in the MSE or the median MAE over series."),
        (
            UNCLEAR,
            UNCLEAR,
            UNCLEAR,
            NOT_SHOWN,
        ),
    ],
)  # fmt: skip
def test_the_verdict_says_what_each_measure_shows(mae, mse, median, words):
    assert against_zero_shot(row(mae, mse, median))[0] == words


def test_each_measure_has_a_sentence_with_difference_interval_and_p():
    _, mae, mse, median = against_zero_shot(row(LOWER, HIGHER, UNCLEAR))
    assert mae == (
        "MAE: .0500 (tuned) beside .0600 (zero-shot raw), a difference of -.0100 [-.0150, -.00500], 16.7 % lower, "
        "p = .001."
    )
    assert mse == (
        "MSE: .0700 (tuned) beside .0600 (zero-shot raw), a difference of +.0100 [+.00500, +.0150], 16.7 % higher, "
        "p = .001."
    )
    assert median == (
        "Median MAE over series: .0590 (tuned) beside .0600 (zero-shot raw), a difference of -.00100 "
        "[-.00400, +.00200], 1.7 % lower, p = .6. tuned is lower on 120 of 200 series."
    )


def test_the_verdict_uses_corrected_p_values():
    assert against_zero_shot(row(LOWER))[0].startswith("Yes")
    assert against_zero_shot(row(LOWER, corrected=0.05))[0].startswith("Not shown")


def test_a_model_that_the_scored_series_chose_confirms_nothing():
    verdict = against_zero_shot(row(LOWER), by_test=True)[0]
    assert verdict.startswith("Not confirmed, as the scored series chose the model: fine-tuning lowers the MAE")


def test_too_few_series_are_not_tested():
    verdict, *measured = against_zero_shot(row(LOWER, series=19))
    assert verdict.startswith("Not tested: 19 series are too few, for a test takes 20.")
    assert not any("p = " in words or "[" in words for words in measured)
    assert against_zero_shot(row(LOWER, series=20))[0].startswith("Yes")
    mae, *_ = against_baselines([row(LOWER, other="mean", kind="baseline", series=19)])
    assert mae == "MAE beside mean (.0600): a difference of -.0100, 16.7 % lower."


def test_overlapping_intervals_do_not_hide_a_worse_model():
    """A report once called this a tie: single intervals of [.0501, .0649] and [.0312, .0547] overlap."""
    found = row((0.0572, 0.0422, 0.0088, 0.0209, 2e-6), other="var-12-log", kind="baseline")
    verdict, mae, *_ = against_baselines([found])
    assert verdict == (
        "tuned beside the best data-driven baseline: worse by the MAE, the MSE and the median MAE over series."
    )
    assert mae == "MAE beside var-12-log (.0422): a difference of +.0150 [+.00880, +.0209], 35.5 % higher, p < .001."


def test_each_measure_has_its_own_best_baseline_and_counts_the_others():
    best_by_mae = row((0.06, 0.05, 0.005, 0.015, 0.01), (0.02, 0.04, -0.03, -0.01, 0.01), other="var", kind="baseline")
    best_by_mse = row(
        (0.06, 0.08, -0.03, -0.01, 0.01), (0.02, 0.021, -0.01, 0.01, 0.8), other="analogue", kind="baseline"
    )
    worst = row((0.06, 0.4, -0.5, -0.2, 0.01), (0.02, 0.6, -0.8, -0.4, 0.01), other="mean", kind="baseline")
    law = row((0.06, 0.003, 0.05, 0.06, 0.01), other="ode", kind="law")
    verdict, by_mae, by_mse, _, known = against_baselines([worst, best_by_mae, best_by_mse, law])
    assert verdict.endswith(": worse by the MAE and the median MAE over series; no difference is shown by the MSE.")
    assert by_mae.startswith("MAE beside var (.0500): a difference of")
    assert by_mae.endswith("tuned is better than 2 of the other 2.")
    assert by_mse.startswith("MSE beside analogue (.0210): a difference of")
    assert known == "With the law behind the data known, ode has a MAE of .00300 and a MSE of .00300."
    worse = row((0.06, 0.055, 0.002, 0.008, 0.01), (0.02, 0.05, -0.05, -0.01, 0.6), other="naive", kind="baseline")
    by_mae = against_baselines([best_by_mae, worse, worst])[1]
    assert by_mae.endswith("tuned is better than 1 and worse than 1 of the other 2.")


# -- whole studies ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough systems for a test: the last 24 are scored."""
    path = tmp_path_factory.mktemp("many") / "data.h5"
    make_dataset(path, systems=120, seed=2)
    return path


SCORED = list(range(96, 120))


def said(finished, **more):
    return answer_forecasts(a_material(finished, **more))


def noted(answer, begin):
    return [note for note in answer.notes if begin in note]


def test_a_better_run_is_said_to_improve_on_its_base_model(tmp_path, many):
    finished = Finished(tmp_path, many)
    finished.evaluated(finished.trained("good"), noise=0.001, systems=SCORED)
    finished.evaluated(noise=5, systems=SCORED)
    answer = said(finished)
    assert answer.verdict == "answered"
    assert answer.sentences[0] == "Yes: fine-tuning lowers the MAE, the MSE and the median MAE over series."
    assert answer.sentences[3].endswith("good is lower on 24 of 24 series.")
    assert noted(answer, "Holm's procedure")
    assert noted(answer, "One training seed")


def test_a_model_that_is_worse_on_every_series_is_worse(tmp_path, many):
    """Errors range over factors from series to series, and one model is a tenth worse on every one of them."""
    finished = Finished(tmp_path, many)
    runs = [finished.evaluated(finished.trained("one"), systems=SCORED), finished.evaluated(systems=SCORED)]
    errors = np.random.default_rng(3).lognormal(-3, 1, 24)
    for run, factor in zip(runs, (1.1, 1.0), strict=True):
        rewrite_scores(finished, run, errors * factor)
    scores = [json.loads((finished.layout.run(run.name).final / "result/scores.json").read_text()) for run in runs]
    one, base = (each["scores"]["intervals"]["mae"] for each in scores)
    assert one["low"] < base["high"]
    first, *_ = said(finished).sentences
    assert first == "No: fine-tuning raises the MAE, the MSE and the median MAE over series."


def test_seeds_are_one_model_and_their_spread_is_said(tmp_path, many):
    finished = Finished(tmp_path, many)
    for seed in (0, 1, 2):
        finished.evaluated(finished.trained(f"s{seed}", seed=seed), noise=0.1 + seed / 100, systems=SCORED)
    finished.evaluated(noise=5, systems=SCORED)
    answer = said(finished)
    assert noted(answer, "means over 3 training seeds")
    assert not noted(answer, "One training seed")


def test_the_chosen_run_leads_and_the_best_by_test_is_called_so(tmp_path, many):
    finished = Finished(tmp_path, many)
    finished.evaluated(finished.trained("validated", losses=(1.0, 0.5)), noise=0.5, systems=SCORED)
    finished.evaluated(finished.trained("lucky", losses=(1.0, 0.9), lora_rank=2), noise=0.1, systems=SCORED)
    finished.evaluated(noise=5, systems=SCORED)
    answer = said(finished)
    assert "(validated) beside" in answer.sentences[1]
    assert noted(answer, "validated was chosen by validation, not by the scored series: the lowest validation loss")
    assert noted(answer, "lucky has the lowest MAE of 2 models on the scored series")
    # three measures, of zero-shot and each baseline that could be made
    assert noted(answer, f"for the {3 * (len(a_baselines(finished)) + 1)} tests of the chosen model")


def test_what_the_scored_series_chose_is_not_confirmed_by_them(tmp_path, many):
    finished = Finished(tmp_path, many)
    finished.evaluated(finished.trained("one"), noise=0.1, systems=SCORED)
    finished.evaluated(finished.trained("lucky", lora_rank=2), noise=0.001, systems=SCORED)
    finished.evaluated(noise=5, systems=SCORED)
    answer = said(finished, losses={})
    assert answer.sentences[0].startswith("Not confirmed, as the scored series chose the model: fine-tuning lowers")


def test_p_values_are_corrected_for_all_tests_of_each_family(tmp_path, many):
    finished = Finished(tmp_path, many)
    finished.evaluated(finished.trained("one"), noise=0.3, systems=SCORED)
    finished.evaluated(finished.trained("other", lora_rank=2), noise=0.3, systems=SCORED)
    finished.evaluated(finished.trained("third", lora_rank=16), noise=0.33, systems=SCORED)
    finished.evaluated(noise=0.35, systems=SCORED)
    material = a_material(finished)
    compared = compare_all(choose(material), material)
    assert len(compared.others) == 2
    for rows in (compared.rows, compared.others):
        plain = [each.found.measures[name].p for each in rows for name in MEASURES]
        assert [each.corrected[name] for each in rows for name in MEASURES] == list(holm(plain))
        assert list(holm(plain)) != plain


def a_baselines(finished):
    (first, *_) = a_material(finished).evaluations
    return [name for name, scores in first.scores["baselines"].items() if "problem" not in scores]


def test_an_older_evaluation_is_compared_by_its_forecasts(tmp_path, many):
    """Before schema 2, scores.json had no errors by series."""
    finished = Finished(tmp_path, many)
    made = finished.evaluated(finished.trained("one"), noise=0.1, systems=SCORED)
    finished.evaluated(noise=5, systems=SCORED)
    expected = said(finished)
    path = finished.layout.run(made.name).final / "result/scores.json"
    scores = json.loads(path.read_text())
    for each in (scores["scores"], *scores["baselines"].values()):
        each.pop("by_system", None)
    path.write_text(json.dumps(scores | {"schema": 1}))
    assert said(finished).sentences == expected.sentences
    many_gone = {"load": _gone, "baselines": _gone}
    answer = said(finished, **many_gone)
    assert answer.verdict == "open"
    assert answer.sentences == ["Not answered: the errors of each series cannot be read: the data are gone"]


def _gone(_):
    from lvjobs.errors import LvjobsError

    raise LvjobsError("the data are gone")


def test_without_zero_shot_the_question_stays_open_and_says_what_to_type(tmp_path, data):
    finished = Finished(tmp_path, data)
    finished.evaluated(finished.trained("one"))
    answer = said(finished)
    assert answer.verdict == "open"
    assert answer.sentences[0].endswith("Type: lvjobs evaluate --zero-shot raw --series 3")


def test_the_base_model_of_another_run_answers_nothing(tmp_path, data):
    """As where a study began with another model: that one is no zero-shot of this one."""
    finished = Finished(tmp_path, data)
    finished.evaluated(noise=5)
    finished.evaluated(finished.trained("one", decimals=3))
    answer = said(finished)
    assert answer.sentences[0].startswith("Not answered yet: the base model was not evaluated on the series of one")
    assert answer.sentences[0].endswith("Type: lvjobs evaluate --zero-shot raw --set decimals=3 --series 3")
    finished.evaluated(noise=0.001, decimals=3)
    assert said(finished).sentences[0].startswith("Not tested: 3 series are too few")


def test_without_evaluations_nothing_is_answered(tmp_path, data):
    finished = Finished(tmp_path, data)
    finished.trained("one")
    assert said(finished).sentences == ["Not answered yet: nothing has been evaluated. Type: lvjobs evaluate RUN"]
    finished.evaluated(noise=1)
    assert said(finished).sentences[0].startswith("Not answered yet: of these models the base model alone")


def test_a_model_that_was_validated_on_scored_series_is_named(tmp_path, data):
    finished = Finished(tmp_path, data)
    finished.evaluated(finished.trained("peeked", validation_systems=0))
    assert noted(said(finished), "validation_systems = 0): peeked")


def test_a_study_that_forecasts_nothing_is_answered_by_its_winners():
    why = "highest accuracy at the end: 0.9"
    stage = read_row(StageStatus, {"name": "wide", "winner": "w8", "because": why})
    assert answer_stages([stage], []).sentences == ["wide: w8, highest accuracy at the end: 0.9."]
    none = replace(stage, winner=None)
    running = [read_row(RunStatus, {"state": state}) for state in ("completed", "running")]
    assert answer_stages([none], running).sentences == [
        "Not answered yet: no stage has a winner; 1 of 2 runs are completed."
    ]
    assert answer_stages([], []).verdict == "open"
