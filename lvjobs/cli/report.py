"""`lvjobs report`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: report/ in the study.")
@study_option
@json_option
def report(out: Path | None, root: Path, as_json: bool) -> None:
    """Write the study's report: one HTML file that needs no network, and its tables as Markdown and LaTeX.

    It says what the last pass knew, and makes none.
    """
    index = Study.open(root).report(out).details
    if as_json:
        print_json(index)
    else:
        for sentence in index["answer"]:
            click.echo(sentence)
        for each in index["missing"]:
            click.echo(f"not drawn: {each['figure']} ({each['why']})")
        click.echo(f"{index['directory']}: {', '.join(index['files'])}")
