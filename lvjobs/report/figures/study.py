"""All figures that a study has data for, as matplotlib draws them: what `report.material` chose. docs/figures.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from lvjobs.report.figures.errors import error_by_step, error_distribution
from lvjobs.report.figures.loss import loss_figure
from lvjobs.report.figures.series import example_series, forecast_figure
from lvjobs.report.figures.stages import context_figure, heatmap
from lvjobs.report.material import (
    Content,
    Contexts,
    Examples,
    Forecast,
    Heat,
    Material,
    StageLosses,
    StepErrors,
    choices,
)


@dataclass(frozen=True)
class Drawn:
    """A figure: its file's name without suffix, and what it shows; `figure` is None where `missing` says why."""

    stem: str
    shows: str
    figure: Figure | None = None
    missing: str = ""


def draw(material: Material) -> Iterator[Drawn]:
    """Each figure in turn, drawn or not."""
    for each in choices(material):
        yield Drawn(each.stem, each.shows, None if each.content is None else _figure(each.content), each.missing)


def _figure(content: Content) -> Figure:
    if isinstance(content, Examples):
        return example_series(content.time, content.series, content.history)
    if isinstance(content, StageLosses):
        return loss_figure(content.runs)
    if isinstance(content, Heat):
        return heatmap(content.cells, content.quantity, content.title, content.baselines)
    if isinstance(content, Contexts):
        return context_figure(content.points, content.baselines, content.zero_shot)
    if isinstance(content, Forecast):
        return forecast_figure(
            content.series,
            content.time,
            content.truth,
            content.history,
            content.forecast,
            content.baselines,
            quantiles=content.quantiles,
            label=content.label,
        )
    if isinstance(content, StepErrors):
        return error_by_step(content.models, content.baselines)
    return error_distribution(content.models, content.baselines)
