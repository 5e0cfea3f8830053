"""Commands that write files for people and other programs: `figures`, `report` and `export`."""

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_found, print_problems, study_option
from lvjobs.cli.help import Command
from lvjobs.report.outputs import FORMATS, TEXT_FORMATS


def _note_archived(study: Study) -> None:
    """Print which runs are missing from an output because they are archived."""
    if names := study.layout.archived():
        unpack = remedies.UNPACK(*study.where, run=names)
        click.echo(f"note: {len(names)} archived runs are not read; to include them: {unpack}", err=True)


@click.command(cls=Command)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: figures/ in the study.")
@study_option
@json_option
def figures(out: Path | None, root: Path, as_json: bool) -> None:
    """Draw all figures that the study has data for, as PNG and SVG, with an index that lists the missing ones."""
    study = Study.open(root)
    _note_archived(study)
    index = study.figures(out).details
    drawn = [f"{each['files'][0]}: {each['shows']}" for each in index["drawn"]]
    missing = [f"not drawn: {each['stem']} ({each['why']})" for each in index["missing"]]
    print_found(index, [*drawn, *missing, f"in {index['directory']}"], as_json=as_json)


@click.command(cls=Command)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: report/ in the study.")
@study_option
@json_option
def report(out: Path | None, root: Path, as_json: bool) -> None:
    """Write the study's report: one HTML file that needs no network, and its tables as Markdown and LaTeX.

    The study is updated first; if that is not possible, the report shows the last update.
    """
    study = Study.open(root)
    print_problems(study.status())
    _note_archived(study)
    index = study.report(out).details
    missing = [f"not drawn: {each['figure']} ({each['why']})" for each in index["missing"]]
    written = f"{index['directory']}: {', '.join(index['files'])}"
    print_found(index, [*index["answer"], *missing, written], as_json=as_json)


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--to", "forms", type=click.Choice(FORMATS), multiple=True, help="Only this format. Repeatable.")
@click.option("--force", is_flag=True, help="Overwrite the files of an earlier export.")
@study_option
def export(directory: Path, forms: tuple[str, ...], force: bool, root: Path) -> None:
    """Write tables as CSV and JSON lines, and metrics as TensorBoard event files, into DIRECTORY.

    The tables are runs, attempts, charges, stages, and metrics (a row for each number that a run reported). Repeated
    steps are listed once.
    """
    from lvjobs.api.publish import export as write_export

    chosen = forms or FORMATS
    if not forms and find_spec("tensorboard") is None:
        chosen = TEXT_FORMATS
        command = remedies.INSTALL_EXTRA(python=sys.executable, package="lvjobs[tensorboard]")
        click.echo(
            f"note: no TensorBoard files, because tensorboard is not installed; to write them: {command}", err=True
        )
    study = Study.open(root)
    _note_archived(study)
    numbers = write_export(study, directory, chosen, force=force)
    click.echo(f"{directory}: {numbers} numbers of metrics, and the rows of runs.db, as {', '.join(chosen)}")
    if "tensorboard" in chosen:
        click.echo(f"view it with: tensorboard --logdir {directory / 'tensorboard'}")
