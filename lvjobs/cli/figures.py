"""`lvjobs figures`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: figures/ in the study.")
@study_option
@json_option
def figures(out: Path | None, root: Path, as_json: bool) -> None:
    """Draw all figures that the study has data for, as PNG and SVG, with an index that says what could not be drawn."""
    index = Study.open(root).figures(out).details
    if as_json:
        print_json(index)
    else:
        for each in index["drawn"]:
            click.echo(f"{each['files'][0]}: {each['shows']}")
        for each in index["missing"]:
            click.echo(f"not drawn: {each['stem']} ({each['why']})")
        click.echo(f"in {index['directory']}")
