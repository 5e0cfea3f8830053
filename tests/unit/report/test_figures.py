"""The drawings of figures, read back from their lines: the numbers that they were given, each where it belongs."""

import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from report_helpers import HISTORY, HORIZON, SYSTEMS, Finished, a_material, data, journal, lines

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.baselines import BASELINES as KNOWN
from lvjobs.forecasting.baselines import row_name
from lvjobs.forecasting.baselines.univariate import CLASSES
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.results import load_result
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.records.summary import StageStatus, read_row
from lvjobs.report.chosen import choose
from lvjobs.report.evaluated import evaluated
from lvjobs.report.figures.draw import figure_of, save
from lvjobs.report.figures.elements import Axis, Cells, Chart, Key, Line, Panel
from lvjobs.report.figures.forecasts import by_step, distribution, examples, forecast, scores
from lvjobs.report.figures.palette import BASELINE_STYLES, INK, baseline_keys
from lvjobs.report.figures.stages import contexts, heat, losses
from lvjobs.report.figures.study import charts, write_figures
from lvjobs.report.material import Losses, Material, Point, smoothed
from lvjobs.report.page.write import drawings

pytestmark = pytest.mark.heavy

__all__ = ["data"]
RNG = np.random.default_rng(7)
TIME = np.linspace(0, 200, 100)
SERIES = RNG.random((100, 2))
BASELINES = {name: RNG.random((20, 2)) for name in ("persistence", "seasonal-naive", "var-8", "analogue")}


def drawn(axes):
    """Label -> (x, y) of an axes' labelled lines."""
    return {line.get_label(): line.get_xydata() for line in axes.get_lines() if not line.get_label().startswith("_")}


def loss_figure(runs):
    return figure_of(losses("stage1", runs))


def context_figure(points, mae, zero_shot=None):
    """Both panels show the same numbers, so that one of them can be read."""
    both = {
        label: {length: {"mae": point, "rmse": point} for length, point in runs.items()}
        for label, runs in points.items()
    }
    zero = None if zero_shot is None else {"mae": zero_shot, "rmse": zero_shot}
    return figure_of(contexts(both, {"mae": mae, "rmse": mae}, zero))


def draw(material):
    """Stem -> the figure for print; those that cannot be drawn are left out."""
    return {each.id: figure_of(each) for each in charts(material) if not each.missing}


def test_examples_are_the_series_that_their_titles_name():
    figure = figure_of(examples(TIME, {3: SERIES, 900: SERIES + 1}, 80))
    for axes, values, title in zip(figure.axes, (SERIES, SERIES + 1), ("series 3", "series 900"), strict=True):
        assert axes.get_title(loc="left") == title
        assert np.array_equal(drawn(axes)["prey"], np.column_stack([TIME, values[:, 0]]))
        assert np.array_equal(drawn(axes)["predator"], np.column_stack([TIME, values[:, 1]]))
        assert set(drawn(axes)["start of the forecast"][:, 0]) == {(TIME[79] + TIME[80]) / 2}


def a_forecast(baselines=BASELINES, samples=SERIES[None, 80:] + 0.1, **more):
    return forecast(SeriesForecast(17, TIME, SERIES, 80, samples, baselines), label="one", **more)


def test_a_forecast_stands_at_the_times_of_its_truth():
    figure = figure_of(a_forecast())
    for variable in range(2):
        whole, close = figure.axes[2 * variable : 2 * variable + 2]
        assert np.array_equal(drawn(whole)["truth"], np.column_stack([TIME, SERIES[:, variable]]))
        for axes in (whole, close):
            assert np.array_equal(drawn(axes)["one"], np.column_stack([TIME[80:], SERIES[80:, variable] + 0.1]))
        assert np.array_equal(drawn(close)["truth"], np.column_stack([TIME[80:], SERIES[80:, variable]]))
        for name in ("persistence", "seasonal-naive", "var-8"):
            assert np.array_equal(drawn(close)[name], np.column_stack([TIME[80:], BASELINES[name][:, variable]]))
    assert figure.get_suptitle() == "series 17, MAE .100"


def test_bands_hold_the_quantiles():
    samples = SERIES[80:] + np.linspace(0, 1, 21)[:, None, None]
    quantiles = {level: np.quantile(samples, level, axis=0) for level in (0.05, 0.25, 0.75, 0.95)}
    figure = figure_of(a_forecast(samples=samples))
    outer, inner = figure.axes[1].collections
    assert (outer.get_label(), inner.get_label()) == ("90 % of the samples", "50 % of the samples")
    for band, low, high in ((outer, 0.05, 0.95), (inner, 0.25, 0.75)):
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
        for level in (low, high):
            assert set(zip(TIME[80:], quantiles[level][:, 0], strict=True)) <= corners


def test_a_forecast_of_training_data_says_so():
    figure = figure_of(a_forecast(warning="TRAINING DATA of this model"))
    assert figure.get_suptitle() == "series 17, MAE .100: TRAINING DATA of this model"


def test_without_baselines_nothing_is_drawn():
    with pytest.raises(LvjobsError, match="never shown without"):
        a_forecast(baselines={})
    with pytest.raises(ValueError, match="never shown without"):
        by_step({"one": SERIES[80:]}, {})
    with pytest.raises(ValueError, match="never shown without"):
        distribution({"one": SERIES[80:, 0]}, {})


def test_every_baseline_is_drawn_with_a_look_of_its_own():
    assert BASELINE_STYLES.keys() == {*KNOWN, *CLASSES}
    assert len({*BASELINE_STYLES.values()}) == len(BASELINE_STYLES)
    keys = baseline_keys(["chronos:a", "ode", "chronos:b"])
    assert [key.name for key in keys.values()] == ["chronos:a", "chronos:b", "ode (knows the law)"]
    others = [(keys[name].colour, keys[name].dash) for name in ("chronos:a", "chronos:b")]
    assert len({*others, *BASELINE_STYLES.values()}) == len(BASELINE_STYLES) + 2
    figure = figure_of(a_forecast(baselines=dict.fromkeys((*KNOWN, "of another release"), BASELINES["analogue"])))
    assert {*map(row_name, KNOWN), "of another release"} <= drawn(figure.axes[1]).keys()


def test_losses_are_drawn_and_the_best_is_ringed():
    training = {step: 1 / step for step in range(1, 101)}
    validation = {0: 2.0, 50: 0.5, 100: 0.7}
    left, right = loss_figure([Losses("one", "loss", training, validation, (50,))]).axes
    steps, losses = np.array([*training], float), np.array([*training.values()])
    assert np.array_equal(drawn(left)["one: each batch"], np.column_stack([steps, losses]))
    assert np.array_equal(drawn(left)["one"], np.column_stack([smoothed(steps, 5), smoothed(losses, 5)]))
    assert set(drawn(left)["resumed"][:, 0]) == {50}
    _, points, ring = right.get_lines()
    assert points.get_xydata().tolist() == [[0, 2.0], [50, 0.5], [100, 0.7]]
    assert ring.get_xydata().tolist() == [[50, 0.5]]


def test_means_of_a_smoothed_loss():
    assert smoothed(np.array([1.0, 3.0, 5.0, 7.0, 100.0]), 2).tolist() == [2.0, 6.0, 100.0]
    assert smoothed(np.array([1.0, 3.0]), 1).tolist() == [1.0, 3.0]


def test_the_numeric_heads_loss_has_axes_of_its_own():
    runs = [Losses("full", "loss", {1: 1.0}, {0: 1.0}), Losses("head", "loss_numeric", {1: 0.1}, {0: 0.1})]
    figure = loss_figure(runs)
    assert [set(drawn(axes)) for axes in figure.axes[::2]] == [{"full"}, {"head"}]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [
        "loss (nats per token)",
        "loss of the numeric head\n(nats per token)",
    ]


def test_many_runs_have_lines_of_their_own():
    runs = [Losses(f"run{number}", "loss", {1: 1.0}, {0: 1.0}) for number in range(20)]
    looks = {(line.get_color(), line._unscaled_dash_pattern) for line in loss_figure(runs).axes[0].get_lines()}
    assert len({(colour, str(dashes)) for colour, dashes in looks}) == 20


def test_a_heatmap_has_each_cell_where_its_axes_say():
    cells = {(8, 1e-3): 0.3, (2, 4e-3): 0.1, (8, 4e-3): 0.2}
    axes = figure_of(heat(cells, "stage1", {"persistence": 0.4, "var-8": 0.07})).axes[0]
    rates = {label.get_text(): place for place, label in enumerate(axes.get_xticklabels())}
    ranks = {label.get_text(): place for place, label in enumerate(axes.get_yticklabels())}
    image = axes.collections[0].get_array()
    for (rank, rate), value in cells.items():
        assert image[ranks[str(rank)], rates[f"{rate:g}"]] == value
    assert np.ma.is_masked(image[ranks["2"], rates["0.001"]])
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[rates["0.004"], ranks["2"]] == ".100"
    assert texts[rates["0.001"], ranks["2"]] == "no run"
    (frame,) = axes.patches
    assert (round(frame.get_x()), round(frame.get_y())) == (rates["0.004"], ranks["2"])
    assert "persistence .400, var-8 .0700" in axes.figure.get_supxlabel().replace("\n", " ")


def test_contexts_have_intervals_and_baselines():
    points = {"one": {128: Point(0.3, 0.2, 0.5), 768: Point(0.1, 0.05, 0.2)}}
    figure = context_figure(points, {"var-8": 0.07}, Point(0.4, 0.3, 0.5))
    axes, _ = figure.axes
    (bars,) = axes.collections
    assert drawn(axes)["one"].tolist() == [[0, 0.3], [1, 0.1]]
    ends = [[end[1] for end in segment] for segment in bars.get_segments()]
    assert np.allclose(ends, [[0.2, 0.5], [0.05, 0.2]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["128", "768"]
    across = {name: set(xy[:, 1]) for name, xy in drawn(axes).items() if name != "one"}
    assert across == {"var-8": {0.07}, "zero-shot": {0.4}}


def test_errors_by_step_of_each_variable():
    errors, other = RNG.random((20, 2)), RNG.random((20, 2))
    figure = figure_of(by_step({"one": errors}, {"persistence": other}))
    for variable, axes in enumerate(figure.axes):
        assert np.array_equal(drawn(axes)["one"], np.column_stack([np.arange(1, 21), errors[:, variable]]))
        assert np.array_equal(drawn(axes)["persistence"], np.column_stack([np.arange(1, 21), other[:, variable]]))


def test_a_distribution_ends_at_one_and_marks_median_and_mean():
    errors = np.array([4.0, 1.0, 2.0, 100.0, 3.0])
    (axes,) = figure_of(distribution({"one": errors}, {"persistence": errors})).axes
    shares, median, mean = axes.get_lines()[3:]
    assert shares.get_xydata().tolist() == [[1, 0.2], [2, 0.4], [3, 0.6], [4, 0.8], [100, 1.0]]
    assert median.get_xydata().tolist() == [[3, 0.5]]
    assert mean.get_xydata().tolist() == [[22, 0.8]]


def test_equal_figures_are_equal_bytes_and_hold_no_date(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert save(a_forecast(), tmp_path / name, "f") == ["f.png", "f.svg"]
    for name in ("f.png", "f.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "date" not in (tmp_path / "one" / "f.svg").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory, data):
    """Two stages with the same cells and other results; contexts; the base model."""
    finished = Finished(tmp_path_factory.mktemp("study"), data)
    for stage, noise in (("stage1", 0.1), ("stage2", 0.3)):
        for rank in (2, 8):
            batch = 2 if stage == "stage1" else 4
            run = finished.trained(f"{stage}-r{rank}", stage, lora_rank=rank, batch_size=batch)
            finished.evaluated(run, noise=noise / rank)
    run = finished.trained("short", "contexts", lora_rank=8, batch_size=2, context_length=128)
    finished.evaluated(run, noise=0.5)
    finished.evaluated(noise=0.6)
    return finished


def test_a_stages_results_do_not_overwrite_anothers(study, data):
    figures = draw(a_material(study))
    kept = {each.subject: each.scores["scores"]["overall"]["mae"] for each in evaluated(study.layout, study.runs)}
    for stage in ("stage1", "stage2"):
        image = figures[f"figure-3-heatmap-{stage}"].axes[0].collections[0].get_array()
        assert image[:, 0].tolist() == [kept[f"{stage}-r2"], kept[f"{stage}-r8"]]
        assert set(drawn(figures[f"figure-2-loss-{stage}"].axes[0])) == {f"{stage}-r2", f"{stage}-r8"}
    assert kept["stage1-r2"] != kept["stage2-r2"]


def test_lines_with_one_label_are_not_drawn_over_each_other(tmp_path, data):
    """Two families of contexts that differ in the batch alone."""
    finished = Finished(tmp_path, data)
    for batch in (2, 4):
        for context in (128, 512):
            run = finished.trained(f"b{batch}-c{context}", batch_size=batch, context_length=context)
            finished.evaluated(run, noise=0.1 * batch + context / 1e4)
    figure = draw(a_material(finished))["figure-4-context"]
    lines = drawn(figure.axes[0])
    heights = sorted(y for name, points in lines.items() if name.startswith("rank") for y in points[:, 1])
    scores = [each.scores["scores"]["overall"]["mae"] for each in evaluated(finished.layout, finished.runs)]
    assert heights == sorted(scores)


@pytest.mark.parametrize(("rates", "is_drawn"), [(8, True), (9, False)])
def test_points_that_a_sampler_chose_make_no_heatmap_of_holes(tmp_path, data, rates, is_drawn):
    """Each with a rate of its own: a row and a column for each would be a poster."""
    finished = Finished(tmp_path, data)
    for number in range(rates):
        run = finished.trained(f"t{number}", learning_rate=1e-4 + number * 1e-5, lora_rank=2 ** (1 + number % 3))
        finished.evaluated(run)
    (found,) = [each for each in charts(a_material(finished)) if each.id.startswith("figure-3-heatmap")]
    assert found.id == "figure-3-heatmap-stage1"
    assert bool(found.panels) == is_drawn
    assert found.missing == ("" if is_drawn else "no grid; see: lvjobs sweep show stage1")


def test_figures_of_a_study_show_its_chosen_run_and_its_own_errors(study, data):
    """The winner by validation leads. The run with the best score on the scored series is beside it, and called so."""
    won = read_row(StageStatus, {"name": "stage1", "winner": "stage1-r2", "because": "lowest validation_loss"})
    figures = draw(a_material(study, stages=[won]))
    made = {each.subject: each for each in evaluated(study.layout, study.runs)}
    assert min(made.values(), key=lambda each: each.mae).subject == "stage1-r8"
    best = made["stage1-r2"]
    result = load_result(best.files.final, best.run)
    for variable, axes in enumerate(figures["figure-6-error-by-step"].axes):
        assert np.array_equal(drawn(axes)[best.subject][:, 1], result.errors.mean(axis=0)[:, variable])
        assert {"zero-shot raw", "stage2-r2", "stage1-r8 (best by test)"} <= set(drawn(axes))
    (axes,) = figures["figure-7-error-distribution"].axes
    assert np.array_equal(drawn(axes)[best.subject][:, 0], np.sort(result.errors.mean(axis=(1, 2))))
    errors = dict(zip(SYSTEMS, result.errors.mean(axis=(1, 2)), strict=True))
    for stem, chosen in (("typical", sorted(errors.values())[1]), ("worst", max(errors.values()))):
        figure = figures[f"figure-5-forecast-{stem}"]
        series = int(figure.get_suptitle().split(",")[0].removeprefix("series "))
        assert errors[series] == chosen
        truth = load_dataset(data).trajectories[series, : HISTORY + HORIZON, 0]
        assert np.array_equal(drawn(figure.axes[0])["truth"][:, 1], truth)


def test_a_study_with_nothing_says_why_for_every_figure(study, data):
    empty = Material("no such file", {}, [], None, None)
    every = list(charts(empty))
    assert {each.id.split("-")[1] for each in every} == set("1234567")
    assert all(each.missing and not each.panels for each in every)


def test_the_index_lists_figures_and_what_was_drawn_before_and_is_not_now_is_gone(tmp_path, study, data):
    out = tmp_path / "figures"
    index = write_figures(a_material(study), out)
    assert json.loads((out / "index.json").read_text())["drawn"] == index["drawn"]
    named = {name for each in index["drawn"] for name in each["files"]}
    assert named == {path.name for path in out.iterdir()} - {"index.json", "index.md"}
    assert all(each["stem"] in (out / "index.md").read_text() for each in index["drawn"])
    write_figures(a_material(study, losses={"stage1": []}, evaluations=[]), out)
    assert {path.name for path in out.iterdir()} == {
        "index.json",
        "index.md",
        "figure-1-example-series.png",
        "figure-1-example-series.svg",
    }
    assert "lvjobs evaluate RUN" in (out / "index.md").read_text()


def test_a_directory_with_other_files_is_left_alone(tmp_path, study, data):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        write_figures(a_material(study), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_resumed_run_is_marked_in_its_stages_figure(tmp_path, data):
    finished = Finished(tmp_path, data)
    run = finished.trained("one")
    files = finished.layout.run(run.name)
    journal(files, 2, [("start", {"resumed_from": "000001-00000001"}), *list(lines([1.0, 2.0]))[1:]])
    loss = draw(a_material(finished))["figure-2-loss-stage1"]
    assert set(drawn(loss.axes[0])["resumed"][:, 0]) == {1}


LONG = "a-run-whose-name-takes-all-the-eighty-characters-that-a-name-of-a-run-may-have-1"


def figures_with_long_words():
    losses = [
        Losses(f"{LONG[:-1]}{number}", metric, {1: 1.0, 2: 0.5}, {0: 1.0}, (1,))
        for number, metric in enumerate(("loss", "loss", "loss_numeric"))
    ]
    yield loss_figure(losses)
    yield loss_figure(losses[:1])
    points = {f"{LONG}{number}": {128: Point(0.3, 0.2, 0.5)} for number in range(3)}
    yield context_figure(points, dict.fromkeys(KNOWN, 0.1))
    cells = {(2, 1e-5): 0.1, (4, 1e-4): 1e3}
    yield figure_of(heat(cells, "stage1: window 512, 500 steps", dict.fromkeys(KNOWN, 0.0001)))
    yield figure_of(examples(TIME, dict.fromkeys(range(5), SERIES), 80))
    samples = SERIES[80:] * 1e-9 + np.linspace(0, 1, 21)[:, None, None]
    found = SeriesForecast(999, TIME, SERIES * 1e-9, 80, samples, BASELINES)
    yield figure_of(forecast(found, label=LONG, warning="TRAINING DATA of this model"))
    models = [f"{LONG}{number}" for number in range(4)]
    yield figure_of(by_step(dict.fromkeys(models, SERIES[80:]), BASELINES))
    other = {"persistence": SERIES[:, 1]}
    yield figure_of(distribution(dict.fromkeys(models, SERIES[:, 0]), other))


def test_no_word_is_cut_off_and_none_lies_on_another():
    for figure in figures_with_long_words():
        figure.draw_without_rendering()
        check_words(figure)


def check_words(figure):
    words = [*figure.texts, *figure.legends]
    for axes in figure.axes:
        words += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
    boxes = {
        str(word): word.get_window_extent() for word in words if word.get_visible() and getattr(word, "_text", "x")
    }
    page = figure.bbox
    for word, box in boxes.items():
        assert min(box.x0, box.y0) >= -1, word
        assert box.x1 <= page.x1 + 1, word
        assert box.y1 <= page.y1 + 1, word
    for word, box in boxes.items():
        for other, another in boxes.items():
            assert word == other or not box.overlaps(another), (word, other)


def test_contexts_are_drawn_where_no_baseline_could_be_made():
    figure = context_figure({"one": {128: Point(0.3, 0.2, 0.5)}}, {})
    assert set(drawn(figure.axes[0])) == {"one"}


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    name = r"$\nonsense{$"
    save(losses("stage1", [Losses(name, "loss", {1: 1.0}, {0: 1.0})]), tmp_path, "f")
    assert name in (tmp_path / "f.svg").read_text()


def in_the_page(panel, key):
    """The drawing of a panel in the page, as XML, and what can be pointed at in it."""
    ((_, drawing, spots),) = drawings(Chart("one", "one", keys=[key]), panel)
    return ET.fromstring(drawing), json.loads(spots)


def test_the_values_that_can_be_pointed_at_lie_where_they_are_drawn():
    key = Key("one", INK)
    line = Line(key, [1.0, 2.0, 3.0], [5.0, 0.1, 40.0], size=4)
    drawing, spots = in_the_page(Panel([line], Axis(), Axis(kind="log"), "", "a line"), key)
    width, height = map(float, drawing.get("viewBox").split()[2:])
    (group,) = [each for each in drawing.iter() if each.get("class") == "k0"]
    at = [(float(each.get("x")) / width, float(each.get("y")) / height) for each in group.iter() if each.get("href")]
    assert np.allclose([(left / 1000, top / 1000) for _, left, _, top, _ in spots], at, atol=0.002)
    assert [words for *_, words in spots] == ["1, 5", "2, 0.1", "3, 40"]


def test_a_cell_without_a_run_and_a_point_out_of_sight_cannot_be_pointed_at():
    cells = Cells(["2", "8"], ["1e-3"], np.array([[0.5], [np.nan]]), (0, 0), "MAE")
    _, spots = in_the_page(Panel([cells], Axis(), Axis(), "", "cells"), Key("", INK))
    assert [words for *_, words in spots] == ["2, 1e-3: 0.5"]
    key = Key("one", INK)
    line = Line(key, [1.0, 2.0], [5.0, 50.0])
    _, spots = in_the_page(Panel([line], Axis(), Axis(limits=(0, 10)), "", "a line"), key)
    assert [words for *_, words in spots] == ["1, 5"]


@pytest.mark.parametrize(("figure", "shape"), [(by_step, (20, 2)), (distribution, (5,))])
def test_errors_of_a_baseline_that_knows_the_law_are_in_the_caption_and_stretch_no_axis(figure, shape):
    found = {"persistence": np.full(shape, 0.5), "ode": np.full(shape, 1e-6)}
    chart = figure({"one": np.full(shape, 0.25)}, found)
    assert [key.name for key in chart.keys] == ["one", "persistence"]
    assert {mark.key.name for panel in chart.panels for mark in panel.marks} == {"one", "persistence"}
    assert min(panel.y.limits[0] for panel in chart.panels) >= (0.1 if figure is by_step else 0)
    assert re.search(r"Not drawn, because it knows the law behind the data: ode, MAE \d", chart.caption)


def test_a_baseline_that_knows_the_law_is_in_the_caption_and_stretches_no_axis(study):
    chart = scores(choose(a_material(study)))
    (panel,) = chart.panels
    names = panel.y.names
    assert "persistence" in names
    assert "ode" not in names
    assert re.search(r"Not drawn, because it knows the law behind the data: ode, MAE \d", chart.caption)
    # the lowest error is on top
    places = {
        name.removesuffix(": "): point.value
        for mark in panel.marks
        for name, point in zip(mark.names, mark.points, strict=True)
    }
    assert [places[name] for name in names] == sorted(places.values())
