"""All figures that a study has data for: what `report.material` chose, as charts. docs/figures.md."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lvjobs.report.figures.forecasts import by_step, distribution, examples, forecast
from lvjobs.report.figures.marks import Chart
from lvjobs.report.figures.stages import contexts, heat, losses
from lvjobs.report.material import (
    Choice,
    Contexts,
    Examples,
    Forecast,
    Heat,
    StageLosses,
    StepErrors,
    SystemErrors,
)

_DESCRIBED: dict[type, Callable[[Any], Chart]] = {
    Examples: examples,
    Heat: heat,
    Contexts: contexts,
    Forecast: forecast,
    StepErrors: by_step,
    SystemErrors: distribution,
}


def chart(choice: Choice, most_curves: int | None = None) -> Chart:
    """Return the figure that was chosen, or why there is none; of a stage's losses at most so many runs'."""
    number, title = f"Figure {choice.stem.split('-')[1]}", choice.shows.partition(";")[0].partition(":")[0]
    bare = Chart(choice.stem, f"{title[0].upper()}{title[1:]}", number=number, missing=choice.missing)
    content = choice.content
    if content is None:
        return bare
    drawn = losses(content, most_curves) if isinstance(content, StageLosses) else _DESCRIBED[type(content)](content)
    said = choice.shows[len(title) :].lstrip(":; ")
    caption = ". ".join(part for part in (drawn.caption, said and f"Shown: {said}") if part)
    return replace(drawn, id=bare.id, title=drawn.title or bare.title, caption=caption, number=number)
