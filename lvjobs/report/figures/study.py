"""All figures that a study has data for, as charts, and why others are missing (docs/figures.md explains each).

The charts are written into a directory with an index.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.files import write_atomic, write_json
from lvjobs.report.chosen import Model, choose
from lvjobs.report.evaluated import Evaluated, groups, sampled_like, subject_again
from lvjobs.report.figures.draw import save
from lvjobs.report.figures.elements import Chart
from lvjobs.report.figures.forecasts import by_step, distribution, examples, forecast
from lvjobs.report.figures.stages import contexts, heat, is_scattered, losses
from lvjobs.report.material import NOTHING_EVALUATED, Material, Point, overall, point
from lvjobs.report.outputs import claim
from lvjobs.report.study_tables import CELL, CONTEXT, cell_of, families

_EXAMPLES = 6


def charts(material: Material, most_curves: int | None = None) -> Iterator[Chart]:
    """Yield each figure in turn, drawn or not; a stage's losses show at most `most_curves` runs."""
    yield _examples(material)
    if not any(material.losses.values()):
        yield _figure("figure-2-loss", "training and validation loss", "no run has trained yet")
    for stage, runs in material.losses.items():
        if runs:
            shows = f"training and validation loss, stage {stage}"
            yield _figure(f"figure-2-loss-{stage}", shows, losses(stage, runs, most_curves))
    yield from _heatmaps(material)
    yield _contexts(material)
    yield from _forecasts(material)


def _figure(stem: str, shows: str, drawn: Chart | str) -> Chart:
    """Return a chart named as in the published study, or one that gives the reason why it is missing."""
    title = shows.partition(";")[0].partition(":")[0]
    bare = Chart(stem, f"{title[0].upper()}{title[1:]}", number=f"Figure {stem.split('-')[1]}", shows=shows)
    if isinstance(drawn, str):
        return replace(bare, missing=drawn)
    details = shows[len(title) :].lstrip(":; ")
    caption = ". ".join(part for part in (drawn.caption, details and f"Shown: {details}") if part)
    return replace(drawn, id=stem, title=drawn.title or bare.title, number=bare.number, shows=shows, caption=caption)


def _examples(material: Material) -> Chart:
    stem, shows = "figure-1-example-series", "example series of the data, evenly over the file"
    if isinstance(material.data, str):
        return _figure(stem, shows, material.data)
    time, trajectories, history = material.data
    chosen = [round(place) for place in np.linspace(0, len(trajectories) - 1, min(len(trajectories), _EXAMPLES))]
    return _figure(stem, shows, examples(time, {series: trajectories[series] for series in chosen}, history))


def _heatmaps(material: Material) -> Iterator[Chart]:
    shows, found = "MAE by learning rate and LoRA rank", False
    by_stage: dict[str, list[Evaluated]] = defaultdict(list)
    for each in material.evaluations:
        if each.trained is not None and each.scores["split"] != "asked":
            by_stage[each.trained.stage].append(each)
    for stage, runs in by_stage.items():
        several = families(max(groups(runs), key=len), CELL)
        for number, family in enumerate(several):
            found = True
            stem = f"figure-3-heatmap-{stage}" + (f"-{number + 1}" if len(several) > 1 else "")
            cells: dict[tuple[int, float], list[float]] = defaultdict(list)
            for each in family:
                rank, rate = cell_of(each, CELL)
                cells[rank, rate].append(each.scores["scores"]["overall"]["mae"])
            if is_scattered(cells):
                yield _figure(stem, f"{shows}, stage {stage}", f"no grid; see: {remedies.SWEEP_SHOW(stage=stage)}")
                continue
            means = {cell: float(np.mean(values)) for cell, values in cells.items()}
            seeds = max(map(len, cells.values()))
            window = f"window {family[0].config.training.context_length}"
            heading = f"{stage}: {window}, {family[0].steps} steps" + (f", mean of {seeds} seeds" * (seeds > 1))
            drawn = replace(heat(means, heading, overall(family[0], "mae")), stage=stage)
            yield _figure(stem, f"{shows}, stage {stage}; {family[0].circumstances}", drawn)
    if not found:
        why = "no stage has two evaluated runs that differ in rank or learning rate alone; type: "
        yield _figure("figure-3-heatmap", shows, why + remedies.EVALUATE(runs="RUN"))


def _contexts(material: Material) -> Chart:
    stem, shows = "figure-4-context", "error by the training window's length"
    for group in groups(material.evaluations):
        several = families([each for each in group if each.trained], CONTEXT)
        if not several:
            continue
        zero_shot = next((_points(each) for each in group if each.is_base_of(several[0][0])), None)
        baselines = {metric: overall(group[0], metric) for metric in ("mae", "rmse")}
        drawn = contexts(_lines(several), baselines, zero_shot)
        return _figure(stem, f"{shows}; {group[0].circumstances}", drawn)
    why = f"no two evaluated runs differ in context length alone; type: {remedies.EVALUATE(runs='RUN')}"
    return _figure(stem, shows, why)


def _lines(several: Sequence[Sequence[Evaluated]]) -> dict[str, dict[int, Mapping[str, Point]]]:
    """Return label -> context length -> figures: one line for each family and seed, so that none hides another."""
    lines: dict[str, dict[int, Mapping[str, Point]]] = {}
    for family in several:
        by_seed: dict[int, list[Evaluated]] = defaultdict(list)
        for each in family:
            by_seed[int(each.trained.config["seed"]) if each.trained else 0].append(each)
        for seed, runs in by_seed.items():
            training = runs[0].config.training
            label = f"rank {training.lora_rank}, rate {training.learning_rate:g}, {runs[0].steps} steps, seed {seed}"
            if label in lines:  # they differ in another setting
                label = f"{label} ({runs[0].subject}...)"
            lines[label] = {each.config.training.context_length: _points(each) for each in runs}
    return lines


def _points(each: Evaluated) -> dict[str, Point]:
    return {name: point(each.scores["scores"], name) for name in ("mae", "mse", "rmse")}


def _forecasts(material: Material) -> Iterator[Chart]:
    kinds = {
        "figure-5-forecast-typical": "forecast against truth of the series with the median error",
        "figure-5-forecast-worst": "forecast against truth of the series with the largest error",
        "figure-6-error-by-step": "mean absolute error by step of the horizon",
        "figure-7-error-distribution": "distribution of the error over systems",
    }
    chosen = choose(material).drawn
    of = f"; {chosen[0].runs[0].circumstances}" if chosen else ""
    drawn = _compared(material, chosen) if chosen else [("", NOTHING_EVALUATED)] * len(kinds)
    for (stem, shows), (shown_of, found) in zip(kinds.items(), drawn, strict=True):
        yield _figure(stem, f"{shows}{shown_of or of}", found)


def _compared(material: Material, chosen: Sequence[Model]) -> Sequence[tuple[str, Chart | str]]:
    """Return figures 5 to 7, or why there are none, each with words on the evaluation it shows if not on all."""
    first = chosen[0].runs[0]
    shown = sampled_like(first, material.evaluations) or first
    try:
        results = {model.label: material.load(model.runs[0]) for model in chosen}
        best = results[chosen[0].label] if shown is first else material.load(shown)
        kept, lost = material.extras(first)
        baselines = {**material.baselines(first), **kept}
    except LvjobsError as error:  # the data are elsewhere, or not those that were forecast: all other figures are shown
        return [("", str(error))] * 4
    if not baselines:
        return [("", "no baseline can be made of these series")] * 4
    order = np.argsort(best.errors.mean(axis=(1, 2)), kind="stable")
    of = f": {shown.subject}; {shown.circumstances}"
    drawn: list[tuple[str, Chart]] = []
    for row in (order[len(order) // 2], order[-1]):
        series = best.of_series(best.systems[row], {name: values[row] for name, values in baselines.items()})
        by = next(part for part in shown.alone if series.series in part.scores["systems"])
        again = subject_again(by, material.train)
        drawn.append((of, forecast(series, label=shown.subject, again=again)))
    models = {name: result.errors for name, result in results.items()}
    others = {name: best.errors_of(values) for name, values in baselines.items()}
    for describe, axis in ((by_step, 0), (distribution, (1, 2))):
        of_models, of_others = (
            {name: errors.mean(axis=axis) for name, errors in found.items()} for found in (models, others)
        )
        drawn.append(("", describe(of_models, of_others)))
    missing = "".join(f". Not shown, {name}: {why}" for name, why in lost.items())
    return [(of, replace(chart, caption=f"{chart.caption}{missing}")) for of, chart in drawn]


MARKER = "index.json"
_KIND = {"kind": "lvjobs figures", "schema": 1}


def write_figures(material: Material, directory: Path) -> dict[str, Any]:
    """Draw everything into `directory`, write `index.json` and `index.md`, and return the index.

    Files of an earlier drawing that this one does not draw are removed, so that no figure is out of date.

    Raises:
        UsageError: the directory holds something else.
    """
    before = claim(directory, MARKER, _KIND)
    drawn, missing = [], []
    for each in charts(material):
        if each.missing:
            missing.append({"stem": each.id, "shows": each.shows, "why": each.missing})
        else:
            drawn.append({"stem": each.id, "shows": each.shows, "files": save(each, directory, each.id)})
    index = {**_KIND, "drawn": drawn, "missing": missing}
    kept = {name for each in drawn for name in each["files"]}
    for name in {name for each in before.get("drawn", ()) for name in each["files"]} - kept:
        (directory / Path(name).name).unlink(missing_ok=True)
    write_json(directory / MARKER, index)
    write_atomic(directory / "index.md", _markdown(index))
    return {**index, "directory": str(directory)}


def _markdown(index: dict[str, Any]) -> str:
    lines = ["# Figures", ""]
    for each in index["drawn"]:
        shows = f"{each['shows'][0].upper()}{each['shows'][1:]}"
        lines += [f"## {each['stem']}", "", f"{shows}.", "", f"![{each['stem']}]({each['files'][0]})", ""]
    if index["missing"]:
        lines += ["## Not drawn", ""]
        lines += [f"- {each['stem']} ({each['shows']}): {each['why']}" for each in index["missing"]]
        lines.append("")
    return "\n".join(lines)
