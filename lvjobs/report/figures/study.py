"""All figures that a study has data for: which runs each shows, and why one cannot be drawn. docs/figures.md."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lvjobs.report.evaluated import Evaluated, groups
from lvjobs.report.figures.errors import error_by_step, error_distribution
from lvjobs.report.figures.loss import loss_figure
from lvjobs.report.figures.series import evenly, example_series, forecast_figure
from lvjobs.report.figures.stages import Point, context_figure, heatmap
from lvjobs.report.losses import Losses
from lvjobs.report.study_tables import CELL, CONTEXT, cell_of, families

Arrays = Mapping[str, NDArray[Any]]
_EXAMPLES = 6
_MODELS = 4
"""How many models are drawn beside the baselines, the best of each stage first: more lines tell less."""


_MOST_RATES = 8


class Forecasted(Protocol):
    """An evaluation's forecasts and what came; `lvjobs.forecasting.results.Result` is one."""

    @property
    def systems(self) -> tuple[int, ...]: ...  # noqa: D102 - documented there, like the others
    @property
    def time(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def values(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def history(self) -> int: ...  # noqa: D102
    @property
    def samples(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def errors(self) -> NDArray[Any]: ...  # noqa: D102
    def errors_of(self, forecasts: NDArray[Any]) -> NDArray[Any]: ...  # noqa: D102


@dataclass(frozen=True)
class Material:
    """What a study has to draw from.

    Attributes:
        data: (time, trajectories (systems, steps, variables), history steps), or in words why there are none.
        losses: The runs' losses, stage by stage.
        evaluations: Those that are done.
        load: The forecasts of one.
        baselines: The baselines' forecasts of its series, each (systems, horizon, variables).
    """

    data: tuple[NDArray[Any], NDArray[Any], int] | str
    losses: Mapping[str, Sequence[Losses]]
    evaluations: Sequence[Evaluated]
    load: Callable[[Evaluated], Forecasted]
    baselines: Callable[[Evaluated], Arrays]


@dataclass(frozen=True)
class Drawn:
    """A figure: its file's name without suffix, and what it shows; `figure` is None where `missing` says why."""

    stem: str
    shows: str
    figure: Figure | None = None
    missing: str = ""


def draw(material: Material) -> Iterator[Drawn]:
    """Each figure in turn, drawn or not."""
    yield _examples(material)
    yield from _losses(material)
    yield from _heatmaps(material)
    yield from _contexts(material)
    yield from _forecasts(material)


def _examples(material: Material) -> Drawn:
    stem, shows = "figure-1-example-series", "example series of the data, evenly over the file"
    if isinstance(material.data, str):
        return Drawn(stem, shows, missing=material.data)
    time, trajectories, history = material.data
    chosen = {series: trajectories[series] for series in evenly(len(trajectories), _EXAMPLES)}
    return Drawn(stem, shows, example_series(time, chosen, history))


def _losses(material: Material) -> Iterator[Drawn]:
    if not any(material.losses.values()):
        yield Drawn("figure-2-loss", "training and validation loss", missing="no run has trained yet")
    for stage, runs in material.losses.items():
        if runs:
            yield Drawn(f"figure-2-loss-{stage}", f"training and validation loss, stage {stage}", loss_figure(runs))


def _heatmaps(material: Material) -> Iterator[Drawn]:
    shows = "MAE by learning rate and LoRA rank"
    found = False
    for stage, runs in _by_stage(material.evaluations).items():
        several = families(max(groups(runs), key=len), CELL)
        for number, family in enumerate(several):
            found = True
            stem = f"figure-3-heatmap-{stage}" + (f"-{number + 1}" if len(several) > 1 else "")
            cells: dict[tuple[int, float], list[float]] = defaultdict(list)
            for each in family:
                rank, rate = cell_of(each, CELL)
                cells[rank, rate].append(each.scores["scores"]["overall"]["mae"])
            if _is_scattered(cells):
                yield Drawn(stem, f"{shows}, stage {stage}", missing=f"no grid: see lvjobs sweep show {stage}")
                continue
            means = {cell: float(np.mean(values)) for cell, values in cells.items()}
            seeds = max(map(len, cells.values()))
            window = f"window {family[0].config.training.context_length}"
            title = f"{stage}: {window}, {family[0].steps} steps" + (f", mean of {seeds} seeds" * (seeds > 1))
            figure = heatmap(means, "MAE (original units)", title, _overall(family[0], "mae"))
            yield Drawn(stem, f"{shows}, stage {stage}; {family[0].circumstances}", figure)
    if not found:
        why = "no stage has two evaluated runs that differ in rank or learning rate alone: lvjobs evaluate RUN..."
        yield Drawn("figure-3-heatmap", shows, missing=why)


def _is_scattered(cells: Collection[tuple[int, float]]) -> bool:
    """Whether they are points that a sampler chose, each with a rate of its own, and most of a heatmap were holes."""
    ranks, rates = {rank for rank, _ in cells}, {rate for _, rate in cells}
    return len(rates) > _MOST_RATES and 2 * len(cells) < len(ranks) * len(rates)


def _contexts(material: Material) -> Iterator[Drawn]:
    stem, shows = "figure-4-context", "error by the training window's length"
    for group in groups(material.evaluations):
        several = families([each for each in group if each.trained], CONTEXT)
        if not several:
            continue
        points = _lines(several)
        zero_shot = next((_points(each) for each in group if each.is_zero_shot), None)
        baselines = {metric: _overall(group[0], metric) for metric in ("mae", "rmse")}
        yield Drawn(stem, f"{shows}; {group[0].circumstances}", context_figure(points, baselines, zero_shot))
        return
    why = "no two evaluated runs differ in context length alone: lvjobs evaluate RUN..."
    yield Drawn(stem, shows, missing=why)


def _lines(several: Sequence[Sequence[Evaluated]]) -> dict[str, dict[int, Mapping[str, Point]]]:
    """Label -> context length -> figures: a line for each family and seed, none of them over another."""
    lines: dict[str, dict[int, Mapping[str, Point]]] = {}
    for family in several:
        by_seed: dict[int, list[Evaluated]] = defaultdict(list)
        for each in family:
            by_seed[int(each.trained.config["seed"]) if each.trained else 0].append(each)
        for seed, runs in by_seed.items():
            training = runs[0].config.training
            label = f"rank {training.lora_rank}, rate {training.learning_rate:g}, {runs[0].steps} steps, seed {seed}"
            if label in lines:  # they differ in something else
                label = f"{label} ({runs[0].subject}...)"
            lines[label] = {each.config.training.context_length: _points(each) for each in runs}
    return lines


def _forecasts(material: Material) -> Iterator[Drawn]:
    kinds = {
        "figure-5-forecast-typical": "forecast against truth of the series with the median error",
        "figure-5-forecast-worst": "forecast against truth of the series with the largest error",
        "figure-6-error-by-step": "mean absolute error by step of the horizon",
        "figure-7-error-distribution": "distribution of the error over systems",
    }
    chosen = _chosen(material.evaluations)
    if not chosen:
        for stem, shows in kinds.items():
            yield Drawn(stem, shows, missing="nothing was evaluated yet: lvjobs evaluate RUN")
        return
    results = {each.subject: material.load(each) for each in chosen}
    baselines = material.baselines(chosen[0])
    best = results[chosen[0].subject]
    of = f"; {chosen[0].circumstances}"
    if not baselines:
        for stem, shows in kinds.items():
            yield Drawn(stem, shows + of, missing="no baseline can be made of these series")
        return
    order = np.argsort(best.errors.mean(axis=(1, 2)), kind="stable")
    for (stem, shows), row in zip(list(kinds.items())[:2], (order[len(order) // 2], order[-1]), strict=True):
        yield Drawn(stem, f"{shows}: {chosen[0].subject}{of}", _forecast(best, int(row), baselines, chosen[0].subject))
    others = {name: best.errors_of(values) for name, values in baselines.items()}
    figure = error_by_step(
        {name: result.errors.mean(axis=0) for name, result in results.items()},
        {name: errors.mean(axis=0) for name, errors in others.items()},
    )
    (stem, shows), (last, distribution) = list(kinds.items())[2:]
    yield Drawn(stem, shows + of, figure)
    figure = error_distribution(
        {name: result.errors.mean(axis=(1, 2)) for name, result in results.items()},
        {name: errors.mean(axis=(1, 2)) for name, errors in others.items()},
    )
    yield Drawn(last, distribution + of, figure)


def _forecast(result: Forecasted, row: int, baselines: Arrays, label: str) -> Figure:
    samples = result.samples[:, row]
    levels = (0.05, 0.25, 0.75, 0.95) if len(samples) > 1 else ()
    return forecast_figure(
        result.systems[row],
        result.time,
        result.values[row],
        result.history,
        np.median(samples, axis=0),
        {name: values[row] for name, values in baselines.items()},
        quantiles=dict(zip(levels, np.quantile(samples, levels, axis=0), strict=True)),
        label=label,
    )


def _chosen(evaluations: Sequence[Evaluated]) -> list[Evaluated]:
    """Of the group with the most series: the best run of each stage, the best of all first, and the base model."""
    candidates = sorted(groups(evaluations), key=lambda group: -len(group[0].scores["systems"]))
    if not candidates:
        return []
    group = next((group for group in candidates if any(each.trained for each in group)), candidates[0])
    best: dict[str, Evaluated] = {}
    for each in sorted(group, key=lambda each: float(each.scores["scores"]["overall"]["mae"])):
        stage = "" if each.is_zero_shot else each.trained.stage if each.trained else each.subject
        best.setdefault(stage, each)
    zero_shot = [best.pop("")] if "" in best else []
    return [*list(best.values())[: _MODELS - len(zero_shot)], *zero_shot]


def _by_stage(evaluations: Sequence[Evaluated]) -> dict[str, list[Evaluated]]:
    found: dict[str, list[Evaluated]] = defaultdict(list)
    for each in evaluations:
        if each.trained is not None and each.scores["split"] != "asked":
            found[each.trained.stage].append(each)
    return found


def _overall(each: Evaluated, metric: str) -> dict[str, float]:
    """A figure of each baseline that could be made."""
    made = each.scores["baselines"].items()
    return {name: float(scores["overall"][metric]) for name, scores in made if "problem" not in scores}


def _points(each: Evaluated) -> dict[str, Point]:
    scores = each.scores["scores"]
    return {name: Point(scores["overall"][name], **scores["intervals"][name]) for name in ("mae", "mse", "rmse")}
