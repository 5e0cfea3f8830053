"""What a study has to draw from, and what of it each figure shows. No figure is drawn here. docs/figures.md."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.report.again import sampled_like, subject_again
from lvjobs.report.evaluated import Evaluated, groups, largest_group
from lvjobs.report.losses import Losses
from lvjobs.report.study_tables import CELL, CONTEXT, cell_of, families
from lvjobs.study.training import TrainingConfig

Arrays = Mapping[str, NDArray[Any]]
_EXAMPLES = 6
_MODELS = 4
"""How many models are drawn beside the baselines, the best of each stage first: more lines tell less."""
_MOST_RATES = 8
NOTHING_EVALUATED = f"nothing was evaluated yet; type: {remedies.EVALUATE(runs='RUN')}"
_LEVELS = (0.05, 0.25, 0.75, 0.95)


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
    train: TrainingConfig | None = None


@dataclass(frozen=True)
class Point:
    """One run's figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Examples:
    """Some series, (T, variables) each, by their index in the file; forecasts of them begin after `history` steps."""

    time: NDArray[Any]
    series: Mapping[int, NDArray[Any]]
    history: int


@dataclass(frozen=True)
class StageLosses:
    """A stage's runs that have losses."""

    stage: str
    runs: Sequence[Losses]


@dataclass(frozen=True)
class Heat:
    """A figure for each (rank, learning rate); `baselines` are the same figure of each."""

    stage: str
    cells: Mapping[tuple[int, float], float]
    title: str
    baselines: Mapping[str, float]
    quantity: str = "MAE (original units)"


@dataclass(frozen=True)
class Contexts:
    """Label of some runs -> context length -> metric -> figure; the same of each baseline, and of the base model."""

    points: Mapping[str, Mapping[int, Mapping[str, Point]]]
    baselines: Mapping[str, Mapping[str, float]]
    zero_shot: Mapping[str, Point] | None


@dataclass(frozen=True)
class Forecast:
    """One series: what came, what was forecast, (horizon, variables), and what each baseline made of it.

    `quantiles` are level -> values like `forecast`; none where it was not sampled. `again`: the words that follow
    `lvjobs evaluate` to evaluate the same model on these series.
    """

    series: int
    time: NDArray[Any]
    truth: NDArray[Any]
    history: int
    forecast: NDArray[Any]
    baselines: Arrays
    quantiles: Mapping[float, NDArray[Any]]
    label: str
    again: Sequence[str] = ()


@dataclass(frozen=True)
class StepErrors:
    """Mean absolute errors, (horizon, variables) each."""

    models: Arrays
    baselines: Arrays


@dataclass(frozen=True)
class SystemErrors:
    """The mean absolute error of each system, (systems,)."""

    models: Arrays
    baselines: Arrays


Content: TypeAlias = Examples | StageLosses | Heat | Contexts | Forecast | StepErrors | SystemErrors


@dataclass(frozen=True)
class Choice:
    """A figure: its file's name without suffix, and what it shows; `content` is None where `missing` says why."""

    stem: str
    shows: str
    content: Content | None = None
    missing: str = ""


def choices(material: Material) -> Iterator[Choice]:
    """What each figure shows, in turn, or why it cannot be drawn."""
    yield _examples(material)
    yield from _losses(material)
    yield from _heatmaps(material)
    yield _contexts(material)
    yield from _forecasts(material)


def _examples(material: Material) -> Choice:
    stem, shows = "figure-1-example-series", "example series of the data, evenly over the file"
    if isinstance(material.data, str):
        return Choice(stem, shows, missing=material.data)
    time, trajectories, history = material.data
    chosen = {series: trajectories[series] for series in evenly(len(trajectories), _EXAMPLES)}
    return Choice(stem, shows, Examples(time, chosen, history))


def evenly(total: int, count: int) -> Sequence[int]:
    """`count` of `total` series, evenly over the file: nobody chose them."""
    return [round(place) for place in np.linspace(0, total - 1, min(count, total))]


def _losses(material: Material) -> Iterator[Choice]:
    if not any(material.losses.values()):
        yield Choice("figure-2-loss", "training and validation loss", missing="no run has trained yet")
    for stage, runs in material.losses.items():
        if runs:
            shows = f"training and validation loss, stage {stage}"
            yield Choice(f"figure-2-loss-{stage}", shows, StageLosses(stage, runs))


def _heatmaps(material: Material) -> Iterator[Choice]:
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
            if is_scattered(cells):
                yield Choice(
                    stem, f"{shows}, stage {stage}", missing=f"no grid; see: {remedies.SWEEP_SHOW(stage=stage)}"
                )
                continue
            means = {cell: float(np.mean(values)) for cell, values in cells.items()}
            seeds = max(map(len, cells.values()))
            window = f"window {family[0].config.training.context_length}"
            title = f"{stage}: {window}, {family[0].steps} steps" + (f", mean of {seeds} seeds" * (seeds > 1))
            heat = Heat(stage, means, title, overall(family[0], "mae"))
            yield Choice(stem, f"{shows}, stage {stage}; {family[0].circumstances}", heat)
    if not found:
        why = "no stage has two evaluated runs that differ in rank or learning rate alone; type: "
        yield Choice("figure-3-heatmap", shows, missing=why + remedies.EVALUATE(runs="RUN"))


def is_scattered(cells: Collection[tuple[Any, Any]]) -> bool:
    """Whether they are points that a sampler chose, each with a rate of its own, and most of a heatmap were holes."""
    ranks, rates = {rank for rank, _ in cells}, {rate for _, rate in cells}
    return len(rates) > _MOST_RATES and 2 * len(cells) < len(ranks) * len(rates)


def _contexts(material: Material) -> Choice:
    stem, shows = "figure-4-context", "error by the training window's length"
    for group in groups(material.evaluations):
        several = families([each for each in group if each.trained], CONTEXT)
        if not several:
            continue
        zero_shot = next((_points(each) for each in group if each.is_base_of(several[0][0])), None)
        baselines = {metric: overall(group[0], metric) for metric in ("mae", "rmse")}
        found = Contexts(_lines(several), baselines, zero_shot)
        return Choice(stem, f"{shows}; {group[0].circumstances}", found)
    why = f"no two evaluated runs differ in context length alone; type: {remedies.EVALUATE(runs='RUN')}"
    return Choice(stem, shows, missing=why)


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


def _forecasts(material: Material) -> Iterator[Choice]:
    kinds = {
        "figure-5-forecast-typical": "forecast against truth of the series with the median error",
        "figure-5-forecast-worst": "forecast against truth of the series with the largest error",
        "figure-6-error-by-step": "mean absolute error by step of the horizon",
        "figure-7-error-distribution": "distribution of the error over systems",
    }
    chosen = compared(material.evaluations)
    if not chosen:
        for stem, shows in kinds.items():
            yield Choice(stem, shows, missing=NOTHING_EVALUATED)
        return
    of = f"; {chosen[0].circumstances}"
    shown = sampled_like(chosen[0], material.evaluations) or chosen[0]
    try:
        results = {each.subject: material.load(each) for each in chosen}
        best = results[chosen[0].subject] if shown is chosen[0] else material.load(shown)
        baselines = material.baselines(chosen[0])
    except LvjobsError as error:  # the data are elsewhere, or not what was forecast: all else is shown
        for stem, shows in kinds.items():
            yield Choice(stem, shows + of, missing=str(error))
        return
    if not baselines:
        for stem, shows in kinds.items():
            yield Choice(stem, shows + of, missing="no baseline can be made of these series")
        return
    order = np.argsort(best.errors.mean(axis=(1, 2)), kind="stable")
    for (stem, shows), row in zip(list(kinds.items())[:2], (order[len(order) // 2], order[-1]), strict=True):
        drawn = _forecast(best, int(row), baselines, shown.subject)
        drawn = replace(drawn, again=subject_again(shown, material.train))
        yield Choice(stem, f"{shows}: {shown.subject}; {shown.circumstances}", drawn)
    others = {name: best.errors_of(values) for name, values in baselines.items()}
    by_step = StepErrors(
        {name: result.errors.mean(axis=0) for name, result in results.items()},
        {name: errors.mean(axis=0) for name, errors in others.items()},
    )
    (stem, shows), (last, distribution) = list(kinds.items())[2:]
    yield Choice(stem, shows + of, by_step)
    by_system = SystemErrors(
        {name: result.errors.mean(axis=(1, 2)) for name, result in results.items()},
        {name: errors.mean(axis=(1, 2)) for name, errors in others.items()},
    )
    yield Choice(last, distribution + of, by_system)


def _forecast(result: Forecasted, row: int, baselines: Arrays, label: str) -> Forecast:
    samples = result.samples[:, row]
    levels = _LEVELS if len(samples) > 1 else ()
    return Forecast(
        result.systems[row],
        result.time,
        result.values[row],
        result.history,
        np.median(samples, axis=0),
        {name: values[row] for name, values in baselines.items()},
        dict(zip(levels, np.quantile(samples, levels, axis=0), strict=True)),
        label,
    )


def compared(evaluations: Sequence[Evaluated]) -> list[Evaluated]:
    """Of the largest group: the best run of each stage, the best of all first, and the base model."""
    best: dict[str, Evaluated] = {}
    ordered = sorted(largest_group(evaluations), key=lambda each: float(each.scores["scores"]["overall"]["mae"]))
    tuned = next((each for each in ordered if not each.is_zero_shot), None)
    for each in ordered:
        if each.is_zero_shot and tuned is not None and not each.is_base_of(tuned):
            continue  # of another model
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


def overall(each: Evaluated, metric: str) -> dict[str, float]:
    """A figure of each baseline that could be made."""
    made = each.scores["baselines"].items()
    return {name: float(scores["overall"][metric]) for name, scores in made if "problem" not in scores}


def point(scores: Mapping[str, Any], metric: str) -> Point:
    """A figure of a model or baseline, with its interval."""
    return Point(scores["overall"][metric], **scores["intervals"][metric])


def _points(each: Evaluated) -> dict[str, Point]:
    return {name: point(each.scores["scores"], name) for name in ("mae", "mse", "rmse")}
