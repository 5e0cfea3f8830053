"""`lvjobs init`."""

from dataclasses import asdict
from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.api.settings import create
from lvjobs.cli.common import print_lines, study_option
from lvjobs.cluster.backends import backend_of, is_elsewhere
from lvjobs.cluster.protocol import ClusterError
from lvjobs.control import backends
from lvjobs.ledger import storage
from lvjobs.report.terminal.plain_lines import site_lines
from lvjobs.study.config import load_study
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
    path = create(root, profile, account, preset, force=force)
    study = load_study(root)
    click.echo(f"{path}: edit what you like; then, in that directory, see what it would cost: {remedies.SWEEP_PLAN}")
    for concern in storage.concerns(storage.storage_of(root), on_slurm=is_elsewhere(profile), where=study.where):
        click.echo(f"note: storage: {concern.what}; {concern.remedy}", err=True)
    if not backend_of(profile).is_site:
        return
    try:
        site = backends.cluster_for(study, profile).probe()
    except ClusterError as error:
        click.echo(f"note: Slurm was not reached from here, so what it promises is not known ({error})", err=True)
    else:
        print_lines(site_lines(asdict(site), study.where))
