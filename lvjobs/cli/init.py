"""`lvjobs init`."""

from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.api.settings import create, site_lines, storage_notes
from lvjobs.cli.common import print_lines, study_option
from lvjobs.study.presets import STUDIES


@click.command()
@study_option
@click.option("--profile", default="local", show_default=True, help="local, or a file of slurm_templates.")
@click.option("--account", help="Slurm account that pays.")
@click.option(
    "--preset",
    type=click.Choice(sorted(STUDIES)),
    help="The stages, and what they train (default: study-tiny on local and lab, else published).",
)
@click.option("--force", is_flag=True, help="Write over a study.toml that exists.")
def init(root: Path, profile: str, account: str | None, preset: str | None, force: bool) -> None:
    """Write a commented study.toml: every key there is, with its default."""
    from lvjobs.cluster.backends import backend_of
    from lvjobs.cluster.protocol import ClusterError

    path = create(root, profile, account, preset, force=force)
    click.echo(f"{path}: edit what you like; then, in that directory, see what it would cost: {remedies.SWEEP_PLAN}")
    for note in storage_notes(root, profile):
        click.echo(f"note: {note}", err=True)
    if not backend_of(profile).is_site:
        return
    try:
        lines = site_lines(root, profile)
    except ClusterError as error:
        click.echo(f"note: Slurm was not reached from here, so what it promises is not known ({error})", err=True)
        return
    print_lines(lines)
