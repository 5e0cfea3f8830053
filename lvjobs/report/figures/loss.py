"""Training and validation loss of one or several runs."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lvjobs.records.curves import LOSSES
from lvjobs.report.figures.style import legend_below, new_figure, style
from lvjobs.report.losses import Losses
from lvjobs.report.palette import QUIET, line_styles

_LABELS = dict(zip(LOSSES, ("loss (nats per token)", "loss of the numeric head\n(nats per token)"), strict=True))
_TITLES = {
    True: ("training: all tokens of the windows", "validation: the horizon's tokens"),
    False: ("training", "validation"),
}


def loss_figure(runs: Sequence[Losses]) -> Figure:
    """Training loss on the left, validation loss on the right, where a ring marks each run's best.

    The numeric head's loss has a row of its own: it is another objective. A faint line stands where a run was taken up
    again. A single run also shows the loss of each batch.
    """
    metrics = [metric for metric in LOSSES if any(run.metric == metric for run in runs)]
    styles = dict(zip([run.run for run in runs], line_styles(len(runs)), strict=True))
    with style():
        columns = 1 if max(len(run.run) for run in runs) > 45 else 2  # noqa: PLR2004 - names that fill half a page
        figure = new_figure(7.2, 0.35 + 2.3 * len(metrics) + 0.17 * -(-len(runs) // columns))
        grid = figure.subplots(len(metrics), 2, squeeze=False)
        for metric, (left, right) in zip(metrics, grid, strict=True):
            of_metric = [run for run in runs if run.metric == metric]
            for run in of_metric:
                _draw_training(left, run, styles[run.run], alone=len(of_metric) == 1)
                _draw_validation(right, run, styles[run.run])
            in_nats = all(run.in_nats for run in of_metric)
            for axes, title in zip((left, right), _TITLES[in_nats], strict=True):
                axes.set_title(title)
            for axes in (left, right):
                for step in sorted({step for run in of_metric for step in run.resumed}):
                    axes.axvline(step, color=QUIET, lw=0.8, alpha=0.6, ls=(0, (1, 2)), label="taken up again")
                axes.set_ylabel(_LABELS[metric] if in_nats else "loss")
                axes.set_xlabel("step" if axes is left else "step (a ring marks the best)")
                axes.grid(visible=True)
        legend_below(figure, list(grid.flat), columns)
    return figure


def _draw_training(axes: Axes, run: Losses, drawn: tuple[str, Any], *, alone: bool) -> None:
    steps, losses = run.smooth
    if alone and len(steps) < len(run.training):
        batches = [*run.training], [*run.training.values()]
        axes.plot(*batches, color=drawn[0], lw=0.6, alpha=0.35, label=f"{run.run}: each batch")
    axes.plot(steps, losses, color=drawn[0], ls=drawn[1], label=run.run)


def _draw_validation(axes: Axes, run: Losses, drawn: tuple[str, Any]) -> None:
    axes.plot([*run.validation], [*run.validation.values()], color=drawn[0], ls=drawn[1], marker="o", ms=3)
    if run.best is not None:
        best = [run.validation[run.best]]
        axes.plot([run.best], best, ls="none", marker="o", ms=8, mfc="none", mec=drawn[0], mew=1.1)
