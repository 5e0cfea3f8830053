"""`lvjobs export`."""

from pathlib import Path

import click

from lvjobs.api.publish import FORMATS
from lvjobs.api.publish import export as write_export
from lvjobs.api.study import Study
from lvjobs.cli.common import study_option


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
    chosen = forms or FORMATS
    numbers = write_export(Study.open(root), directory, chosen, force=force)
    click.echo(f"{directory}: {numbers} numbers of metrics, and what runs.db knows, as {', '.join(chosen)}")
    if "tensorboard" in chosen:
        click.echo(f"look at it with: tensorboard --logdir {directory / 'tensorboard'}")
