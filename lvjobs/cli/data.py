"""`lvjobs data`."""

from pathlib import Path

import click

from lvjobs.errors import UsageError


@click.group()
def data() -> None:
    """Make or check input data."""


@data.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("data.h5"))
@click.option("--systems", default=1000, show_default=True, help="How many predator-prey systems.")
@click.option("--seed", default=0, show_default=True, help="Seed of their parameters.")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def make(file: Path, systems: int, seed: int, force: bool) -> None:
    """Write FILE (HDF5: /time, /trajectories) by solving the Rosenzweig-MacArthur law for random systems."""
    from lvjobs.forecasting.data import make_dataset

    if file.exists() and not force:
        raise UsageError(f"{file} exists; name another file, or write over it with --force")
    make_dataset(file, systems=systems, seed=seed)
    click.echo(f"{file}: {systems} systems, 100 steps, 2 variables")
