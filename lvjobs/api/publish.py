"""Files for people and other programs: the report, the figures, and an export of all that is known."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs.api import updates
from lvjobs.api.settings import located
from lvjobs.api.subjects import done_evaluations, seen_runs
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.ledger.records import Run
from lvjobs.study.config import Study
from lvjobs.study.evaluation import EVALUATE_TASK
from lvjobs.study.settings import TrainSettings
from lvjobs.study.training import TRAIN_TASK, TrainingConfig

if TYPE_CHECKING:
    from lvjobs.report.evaluated import Evaluated
    from lvjobs.report.material import Material

FORMATS = ("csv", "jsonl", "tensorboard")


def write_report(study: Study, out: Path | None) -> dict[str, Any]:
    """Write one HTML file and its tables into `out` (None: report/ in the study), and return the index.

    It says what the last pass knew, and makes none.

    Raises:
        UsageError: The directory holds something else.
    """
    from lvjobs import __version__
    from lvjobs.control.inspect.report_data import retell
    from lvjobs.control.loop import open_session
    from lvjobs.report.evaluated import evaluated
    from lvjobs.report.page.compose import Facts, compose
    from lvjobs.report.page.provenance import read_origin
    from lvjobs.report.page.write import write_report as write

    with open_session(study, wait=updates.READ_WAIT_SECONDS) as session:
        retold = retell(session)
    runs, layout = retold["runs"], study.layout
    facts = Facts(
        name=study.root.resolve().name,
        declared=layout.config.read_text(encoding="utf-8") if layout.config.exists() else "",
        version=__version__,
        retold=retold,
        material=_material_of(study, runs, evaluated(layout, runs)),
        origins={run.name: read_origin(layout, run) for run in runs},
    )
    page, tables = compose(facts)
    return write(page, tables, out if out is not None else study.root / "report")


def write_figures(study: Study, out: Path | None) -> dict[str, Any]:
    """Draw all figures that there are data for into `out` (None: figures/ in the study), and return the index.

    Raises:
        UsageError: The directory holds something else, or the ledger cannot be read.
    """
    material = _material_of(study, seen_runs(study), done_evaluations(study))
    from lvjobs.report.figures.index import write_figures as write

    return write(material, out if out is not None else study.root / "figures")


def _material_of(study: Study, runs: Sequence[Run], evaluations: "Sequence[Evaluated]") -> "Material":
    """Return what the study has to draw from; forecasts are read when they are drawn."""
    from lvjobs.forecasting.results import baselines_of, load_result
    from lvjobs.report.losses import read_losses
    from lvjobs.report.material import Material

    losses: dict[str, Any] = {}
    for run in runs:
        in_nats = run.config["task"] == TRAIN_TASK
        if run.config["task"] != EVALUATE_TASK and (found := read_losses(study.layout.run(run.name), in_nats=in_nats)):
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
    """Return what `lvjobs evaluate` finds in study.toml, as it is kept with an evaluation."""
    settings = study.config.train
    if not isinstance(settings, TrainSettings):
        return None
    return TrainingConfig.model_validate(located(settings, study).run_config().params)


def _data(study: Study) -> Any:
    """Return the series that study.toml names, or why they cannot be drawn."""
    from lvjobs.forecasting.data import load_dataset

    train = study.config.train
    if not isinstance(train, TrainSettings):
        return "[train] in study.toml is of a task of its own, whose data lvjobs does not know"
    try:
        found = load_dataset(study.root / expand_home(train.data), steps=train.history_steps + 1)
    except UsageError as error:
        return str(error)
    return found.time, found.trajectories, train.history_steps


def export(study: Study, directory: Path, forms: Sequence[str] = FORMATS, *, force: bool = False) -> int:
    """Write the ledger's tables and the runs' metrics into a directory; return the number of metrics.

    Args:
        study: The study.
        directory: Where; made where it is missing.
        forms: Of `FORMATS`.
        force: Write over what an earlier export left there.

    Raises:
        UsageError: An earlier export is there, or the directory cannot be written.
    """
    kept = [directory / name for name in ("tables", "tensorboard")]
    if (there := next((path for path in kept if path.exists()), None)) and not force:
        raise UsageError(f"{there} exists; name another directory, or write over it with --force")
    try:
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
        return _export(study, directory, forms)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}); name another directory") from error


def _export(study: Study, directory: Path, forms: Sequence[str]) -> int:
    from lvjobs.control.inspect.export import tables
    from lvjobs.control.loop import open_session
    from lvjobs.files import private, write_atomic
    from lvjobs.records.measurements import measurements, rows
    from lvjobs.report.export import as_text
    from lvjobs.report.tensorboard import write_events

    with open_session(study, wait=updates.READ_WAIT_SECONDS) as session, session.ledger.transaction() as transaction:
        found: Mapping[str, Any] = tables(transaction, session.terms)
    metrics: list[dict[str, object]] = []
    with private():
        for run in found["runs"]:
            journals = sorted(study.layout.run(run["name"]).journals.glob("*.jsonl"))
            measured = measurements(path.read_bytes() for path in journals)
            metrics += rows(run["name"], measured)
            if "tensorboard" in forms and measured:
                write_events(directory / "tensorboard" / run["name"], measured)
        for form in set(forms) - {"tensorboard"}:
            (directory / "tables").mkdir(parents=True, exist_ok=True)
            for name, table in {**found, "metrics": metrics}.items():
                write_atomic(directory / "tables" / f"{name}.{form}", as_text(table, form))
    return len(metrics)
