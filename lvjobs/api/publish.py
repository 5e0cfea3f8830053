"""Files for people and other programs: the report, the figures, exports, and a copy of runs.db."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lvjobs import __version__, remedies
from lvjobs.api import updates
from lvjobs.api.evaluate import done_evaluations, seen_runs
from lvjobs.api.material import base_origin, read_material, stages_of
from lvjobs.api.results import WrittenFiles
from lvjobs.control.inspect.export import tables
from lvjobs.control.session import held_study
from lvjobs.errors import UsageError
from lvjobs.files import private, write_atomic
from lvjobs.ledger.copies import back_up as copy
from lvjobs.records.curves import measurements, rows
from lvjobs.records.software import record_of, software_columns
from lvjobs.report.evaluated import evaluated
from lvjobs.report.extras import with_extras_shared
from lvjobs.report.folds import with_folds_pooled
from lvjobs.report.outputs import FORMATS, as_text, write_events
from lvjobs.study.config import StudyContext
from lvjobs.tasks.origin import first_lines


def write_report(study: StudyContext, out: Path | None) -> WrittenFiles:
    """Write one HTML file and its tables into `out` (None: report/ in the study).

    The report shows the study as of the last pass. No pass is made.

    Raises:
        UsageError: The directory holds something else.
    """
    from lvjobs.control.inspect.report_data import report_data
    from lvjobs.report.page.compose import compose
    from lvjobs.report.page.grids import read_origin
    from lvjobs.report.page.write import write_report as write

    with updates.open_session(study, wait=updates.READ_WAIT_SECONDS) as session:
        data = report_data(session)
    runs, layout = data["runs"], study.layout
    found = evaluated(layout, runs, base_origin(study))
    page, tables = compose(
        study.root.resolve().name,
        data,
        read_material(study, runs, with_folds_pooled(with_extras_shared(found)), data["summary"].stages),
        {run.name: read_origin(layout, run) for run in runs},
        declared=layout.config.read_text(encoding="utf-8") if layout.config.exists() else "",
        version=__version__,
    )
    index = write(page, tables, out if out is not None else study.root / "report")
    missing = {each["figure"]: each["why"] for each in index["missing"]}
    return WrittenFiles(Path(index["directory"]), index["files"], missing, index)


def write_figures(study: StudyContext, out: Path | None) -> WrittenFiles:
    """Draw all figures for which there are data, into `out` (None: figures/ in the study).

    Raises:
        UsageError: The directory holds something else, or the ledger cannot be read.
    """
    material = read_material(study, seen_runs(study), done_evaluations(study), stages_of(study))
    from lvjobs.report.figures.study import write_figures as write

    index = write(material, out if out is not None else study.root / "figures")
    missing = {each["stem"]: each["why"] for each in index["missing"]}
    files = [name for each in index["drawn"] for name in each["files"]]
    return WrittenFiles(Path(index["directory"]), files, missing, index)


def ledger_tables(study: StudyContext) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the rows of runs.db by table: runs, attempts, charges and stages (docs/ledger.md)."""
    with (
        updates.open_session(study, wait=updates.READ_WAIT_SECONDS) as session,
        session.ledger.transaction() as transaction,
    ):
        return tables(transaction, session.terms)


def write_tables(
    found: Mapping[str, Sequence[Mapping[str, Any]]], directory: Path, forms: Sequence[str], *, force: bool
) -> None:
    """Write each table into a directory, once per format (`forms`: "csv", "jsonl").

    Raises:
        UsageError: One of the files exists and `force` is not given, or the directory cannot be written.
    """
    paths = {directory / f"{name}.{form}": as_text(rows, form) for name, rows in found.items() for form in forms}
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} exists; name another directory, or overwrite it with --force")
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            write_atomic(path, text)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Make new files private. Raise UsageError if the directory cannot be written."""
    try:
        with private():
            yield
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}); name another directory") from error


def back_up(study: StudyContext, file: Path | None) -> Path:
    """Copy runs.db, even while it is in use, to a file or into a directory (None: beside it); return the copy's path.

    The ledger's log, where there is one, is copied to a file whose name ends in `.log` too.

    Raises:
        UsageError: There is no runs.db, or a copy exists or cannot be written.
    """
    name = f"runs.db.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.bak"
    target = study.root / name if file is None else file / name if file.is_dir() else file
    log, log_copy = study.layout.ledger_log, target.with_name(f"{target.name}.log")
    if not study.layout.database.exists():
        raise UsageError(f"{study.root} has no runs.db to copy; see: {remedies.LEDGER_CHECK(*study.where)}")
    if log_copy.exists():
        raise UsageError(f"{log_copy} exists, and was not changed; name another file")
    with held_study(study, wait=updates.WRITE_WAIT_SECONDS):
        copy(study.layout.database, target.absolute(), study.where)
        if log.exists():
            with _writing(log_copy.parent), log.open("rb") as lines:
                write_atomic(log_copy, lines)
    return target


def export(study: StudyContext, directory: Path, forms: Sequence[str] = FORMATS, *, force: bool = False) -> int:
    """Write the ledger's tables and the runs' metrics into a directory; return the number of metrics.

    Args:
        study: The study.
        directory: The directory, created if it is missing.
        forms: Formats, of `FORMATS`.
        force: Replace an earlier export in the directory.

    Raises:
        UsageError: There is an earlier export and `force` is not given, or the directory cannot be written.
    """
    kept = [directory / name for name in ("tables", "tensorboard")]
    if (there := next((path for path in kept if path.exists()), None)) and not force:
        raise UsageError(f"{there} exists; name another directory, or overwrite it with --force")
    found = ledger_tables(study)
    metrics: list[dict[str, object]] = []
    records: dict[tuple[str, int], Mapping[str, Any]] = {}
    with _writing(directory):
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
        for run in found["runs"]:
            journals = sorted(study.layout.run(run["name"]).journals.glob("*.jsonl"))
            records |= {(run["name"], int(path.stem)): record_of(first_lines(path)) or {} for path in journals}
            measured = measurements(path.read_bytes() for path in journals)
            metrics += rows(run["name"], measured)
            if "tensorboard" in forms and measured:
                write_events(directory / "tensorboard" / run["name"], measured)
    attempts = [
        {**attempt, **software_columns(records.get((attempt["run"], attempt["generation"]), {}))}
        for attempt in found["attempts"]
    ]
    if texts := set(forms) - {"tensorboard"}:
        write_tables(
            {**found, "attempts": attempts, "metrics": metrics}, directory / "tables", sorted(texts), force=True
        )
    return len(metrics)
