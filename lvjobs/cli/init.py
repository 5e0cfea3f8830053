"""`lvjobs init`."""

from dataclasses import asdict
from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.cli.common import study_option
from lvjobs.errors import UsageError
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
    from lvjobs.cluster.backends import LOCAL
    from lvjobs.files import close_to_others, private, write_atomic
    from lvjobs.study.template import study_toml

    defaults = {}
    if profile != LOCAL:
        from lvjobs.cluster.profiles import load_profile

        defaults = load_profile(profile).defaults()
    preset = preset or ("study-tiny" if profile in (LOCAL, "lab") else "published")
    path = root / "study.toml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists; edit it, or write over it with --force")
    try:
        is_new = not root.exists() or not any(root.iterdir())
        with private():
            root.mkdir(parents=True, exist_ok=True)
        if is_new:  # what was there before is not ours to close
            close_to_others(root)
        write_atomic(path, study_toml(profile, account, defaults, preset))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --study") from error
    click.echo(f"{path}: edit what you like; then, in that directory, see what it would cost: {remedies.SWEEP_PLAN}")
    _tell_of_storage(root, profile)
    if profile != LOCAL:
        _tell_of_site(root, profile)


def _tell_of_storage(root: Path, profile: str) -> None:
    """Where the study lies, if there is something to say of that."""
    from lvjobs.control.recovery.check import is_elsewhere
    from lvjobs.ledger import storage
    from lvjobs.study.config import load_study

    where = load_study(root).where
    for concern in storage.concerns(storage.storage_of(root), on_slurm=is_elsewhere(profile), where=where):
        click.echo(f"note: storage: {concern.what}; {concern.remedy}", err=True)


def _tell_of_site(root: Path, profile: str) -> None:
    """What requeue and preemption can promise here, if a scheduler can be asked."""
    from lvjobs.cluster.protocol import ClusterError
    from lvjobs.control.backends import cluster_for
    from lvjobs.report.site import site_lines
    from lvjobs.study.config import load_study

    study = load_study(root)
    try:
        site = cluster_for(study, profile).probe()
    except ClusterError as error:
        click.echo(f"note: Slurm was not reached from here, so what it promises is not known ({error})", err=True)
        return
    for line in site_lines(asdict(site), study.where):
        click.echo(line)
