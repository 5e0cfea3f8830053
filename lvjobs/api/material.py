"""The data from which a study's figures, tables and comparisons are made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lvjobs.api import updates
from lvjobs.api.settings import located
from lvjobs.control.summary import stage_rows
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.evaluations import training_of
from lvjobs.ledger.records import RunRecord
from lvjobs.records.summary import StageStatus
from lvjobs.report.evaluated import Evaluated
from lvjobs.study.config import StudyContext
from lvjobs.study.settings import TrainSettings
from lvjobs.tasks.registry import task_of

if TYPE_CHECKING:
    from lvjobs.report.material import Material


def stages_of(study: StudyContext) -> list[StageStatus]:
    """Return the stages with their winners, as of the last update; none of a study that has not begun.

    Raises:
        UsageError: The ledger cannot be read.
    """
    if not study.layout.database.exists():
        return []
    with (
        updates.open_session(study, wait=updates.READ_WAIT_SECONDS) as session,
        session.ledger.transaction() as transaction,
    ):
        return stage_rows(transaction)


def base_origin(study: StudyContext) -> int | None:
    """Return the forecast origin of [train]; None for a task of the user's own."""
    train = study.config.train
    return train.history_steps if isinstance(train, TrainSettings) else None


def read_material(
    study: StudyContext, runs: Sequence[RunRecord], evaluations: Sequence[Evaluated], stages: Sequence[StageStatus]
) -> "Material":
    """Return the data of the study's figures. Forecasts are read when they are needed."""
    from lvjobs.forecasting.pooling import joined, joined_baselines
    from lvjobs.forecasting.results import baselines_of, load_result
    from lvjobs.report.material import Material, read_losses

    losses: dict[str, Any] = {}
    for run in runs:
        task, files = task_of(run.config), study.layout.run(run.name)
        if not task.is_evaluation and (found := read_losses(files, in_nats=task.loss_is_in_nats)):
            losses.setdefault(run.stage, []).append(found)
    settings, train = study.config.train, None
    if isinstance(settings, TrainSettings):  # [train] in the form that an evaluation keeps
        train = training_of("[train]", located(settings, study).run_config())
    return Material(
        data=_data(study),
        train=train,
        losses=losses,
        evaluations=evaluations,
        load=lambda each: joined([load_result(part.files.final, part.run) for part in each.alone]),
        baselines=lambda each: joined_baselines([baselines_of(part.run)[0] for part in each.alone]),
        stages=stages,
    )


def _data(study: StudyContext) -> Any:
    """Return the series of the data file that study.toml names, or the reason why they cannot be drawn."""
    train = study.config.train
    if not isinstance(train, TrainSettings):
        return "[train] in study.toml names a task of your own, whose data lvjobs does not know"
    try:
        found = load_dataset(study.root / expand_home(train.data), steps=train.history_steps + 1)
    except UsageError as error:
        return str(error)
    return found.time, found.trajectories, train.history_steps
