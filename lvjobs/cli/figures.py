"""`lvjobs figures`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvjobs.cli.common import existing_study, json_option, print_json, study_option
from lvjobs.cli.settings import located
from lvjobs.cli.subjects import done_evaluations, seen_runs
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.forecasting.evaluations import training_of
from lvjobs.ledger.records import Run
from lvjobs.study.config import Study
from lvjobs.study.settings import TrainSettings
from lvjobs.study.training import TrainingConfig
from lvjobs.tasks.registry import task_of

if TYPE_CHECKING:
    from lvjobs.report.evaluated import Evaluated
    from lvjobs.report.material import Material


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: figures/ in the study.")
@study_option
@json_option
def figures(out: Path | None, root: Path, as_json: bool) -> None:
    """Draw all figures that the study has data for, as PNG and SVG, with an index that says what could not be drawn."""
    study = existing_study(root)
    material = material_of(study, seen_runs(study), done_evaluations(study))
    from lvjobs.report.figures.index import write_figures

    index = write_figures(material, out if out is not None else study.root / "figures")
    if as_json:
        print_json(index)
        return
    for each in index["drawn"]:
        click.echo(f"{each['files'][0]}: {each['shows']}")
    for each in index["missing"]:
        click.echo(f"not drawn: {each['stem']} ({each['why']})")
    click.echo(f"in {index['directory']}")


def material_of(study: Study, runs: Sequence[Run], evaluations: "Sequence[Evaluated]") -> "Material":
    """What the study has to draw from; forecasts are read when they are drawn."""
    from lvjobs.forecasting.results import baselines_of, load_result
    from lvjobs.report.losses import read_losses
    from lvjobs.report.material import Material

    losses: dict[str, Any] = {}
    for run in runs:
        task, files = task_of(run.config), study.layout.run(run.name)
        if not task.is_evaluation and (found := read_losses(files, in_nats=task.loss_is_in_nats)):
            losses.setdefault(run.stage, []).append(found)
    return Material(
        data=_data(study),
        train=_train(study),
        losses=losses,
        evaluations=evaluations,
        load=lambda each: load_result(each.files.final, each.run),
        baselines=lambda each: baselines_of(each.run)[0],
    )


def _train(study: Study) -> TrainingConfig | None:
    """What `lvjobs evaluate` finds in study.toml, as it is kept with an evaluation."""
    settings = study.config.train
    if not isinstance(settings, TrainSettings):
        return None
    return training_of("[train]", located(settings, study).run_config())


def _data(study: Study) -> Any:
    from lvjobs.forecasting.data import load_dataset

    train = study.config.train
    if not isinstance(train, TrainSettings):
        return "[train] in study.toml is of a task of its own, whose data lvjobs does not know"
    try:
        found = load_dataset(study.root / expand_home(train.data), steps=train.history_steps + 1)
    except UsageError as error:
        return str(error)
    return found.time, found.trajectories, train.history_steps
