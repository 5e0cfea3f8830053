"""`lvjobs init`."""

from pathlib import Path

import click

from lvjobs.cli.common import study_option
from lvjobs.errors import UsageError


@click.command()
@study_option
@click.option("--profile", default="local", show_default=True, help="local, or a file of slurm_templates.")
@click.option("--account", help="Slurm account that pays.")
@click.option("--force", is_flag=True, help="Write over a study.toml that exists.")
def init(root: Path, profile: str, account: str | None, force: bool) -> None:
    """Write a commented study.toml: every key there is, with its default."""
    from lvjobs.control.clusters import LOCAL
    from lvjobs.files import write_atomic
    from lvjobs.study.template import study_toml

    defaults = {}
    if profile != LOCAL:
        from lvjobs.cluster.profiles import load_profile

        defaults = load_profile(profile).defaults()
    path = root / "study.toml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists; edit it, or write over it with --force")
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(path, study_toml(profile, account, defaults))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --study") from error
    click.echo(f"{path}: edit what you like, then type: lvjobs submit train")
