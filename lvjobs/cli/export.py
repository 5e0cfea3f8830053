"""`lvjobs export`."""

import shutil
from pathlib import Path

import click

from lvjobs.cli.common import READ_WAIT_SECONDS, existing_study, study_option
from lvjobs.errors import UsageError
from lvjobs.study.config import Study

_FORMATS = ("csv", "jsonl", "tensorboard")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--to", "forms", type=click.Choice(_FORMATS), multiple=True, help="Only this; may be given again.")
@click.option("--force", is_flag=True, help="Write over what an earlier export left there.")
@study_option
def export(directory: Path, forms: tuple[str, ...], force: bool, root: Path) -> None:
    """Write all that is known into DIRECTORY: tables as CSV and JSON lines, metrics as TensorBoard's event files.

    The tables are runs, attempts, charges, stages, and metrics: a row for each number that a run reported. Steps that
    were lost with an attempt are in them once, as they were done again.
    """
    study = existing_study(root)
    chosen = forms or _FORMATS
    kept = [directory / name for name in ("tables", "tensorboard")]
    if (there := next((path for path in kept if path.exists()), None)) and not force:
        raise UsageError(f"{there} exists; name another directory, or write over it with --force")
    try:
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
        numbers = _write(study, directory, chosen)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}); name another directory") from error
    click.echo(f"{directory}: {numbers} numbers of metrics, and what runs.db knows, as {', '.join(chosen)}")
    if "tensorboard" in chosen:
        click.echo(f"look at it with: tensorboard --logdir {directory / 'tensorboard'}")


def _write(study: Study, directory: Path, forms: tuple[str, ...]) -> int:
    from lvjobs.control.inspect.export import tables
    from lvjobs.control.loop import open_session
    from lvjobs.files import private, write_atomic
    from lvjobs.records.measurements import measurements, rows
    from lvjobs.report.export import as_text
    from lvjobs.report.tensorboard import write_events

    with open_session(study, wait=READ_WAIT_SECONDS) as session, session.ledger.transaction() as transaction:
        found = tables(transaction, session.terms)
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
