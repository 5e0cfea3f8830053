"""Commands that write files for people and other programs: `figures`, `report` and `export`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_found, study_option
from lvjobs.report.outputs import FORMATS


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: figures/ in the study.")
@study_option
@json_option
def figures(out: Path | None, root: Path, as_json: bool) -> None:
    """Draw all figures that the study has data for, as PNG and SVG, with an index that says what could not be drawn."""
    index = Study.open(root).figures(out).details
    drawn = [f"{each['files'][0]}: {each['shows']}" for each in index["drawn"]]
    missing = [f"not drawn: {each['stem']} ({each['why']})" for each in index["missing"]]
    print_found(index, [*drawn, *missing, f"in {index['directory']}"], as_json=as_json)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: report/ in the study.")
@study_option
@json_option
def report(out: Path | None, root: Path, as_json: bool) -> None:
    """Write the study's report: one HTML file that needs no network, and its tables as Markdown and LaTeX.

    It says what the last pass knew, and makes none.
    """
    index = Study.open(root).report(out).details
    missing = [f"not drawn: {each['figure']} ({each['why']})" for each in index["missing"]]
    written = f"{index['directory']}: {', '.join(index['files'])}"
    print_found(index, [*index["answer"], *missing, written], as_json=as_json)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--to", "forms", type=click.Choice(FORMATS), multiple=True, help="Only this; may be given again.")
@click.option("--force", is_flag=True, help="Write over what an earlier export left there.")
@study_option
def export(directory: Path, forms: tuple[str, ...], force: bool, root: Path) -> None:
    """Write all that is known into DIRECTORY: tables as CSV and JSON lines, metrics as TensorBoard's event files.

    The tables are runs, attempts, charges, stages, and metrics: a row for each number that a run reported. Steps that
    were lost with an attempt are in them once, as they were done again.
    """
    from lvjobs.api.publish import export as write_export

    chosen = forms or FORMATS
    numbers = write_export(Study.open(root), directory, chosen, force=force)
    click.echo(f"{directory}: {numbers} numbers of metrics, and what runs.db knows, as {', '.join(chosen)}")
    if "tensorboard" in chosen:
        click.echo(f"look at it with: tensorboard --logdir {directory / 'tensorboard'}")
