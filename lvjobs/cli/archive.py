"""`lvjobs archive`: the files of finished runs, packed into one file each, because quotas count files."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import chosen_runs, complete_runs, print_lines, study_option, tag_option
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError


@click.command(cls=Command)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@tag_option
@study_option
@click.option("--unpack", is_flag=True, help="Unpack these runs again.")
def archive(runs: tuple[str, ...], tag: str, root: Path, unpack: bool) -> None:
    """Pack the directories of finished RUNS into one file each. Without RUNS, list archived runs.

    An archived run keeps its place in the ledger and in `lvjobs status`. Reports, evaluations and further training
    need its files: unpack it first.
    """
    study = Study.open(root)
    if not (runs or tag):
        if unpack:
            raise UsageError(f"name the runs to unpack: {', '.join(study.layout.archived()) or 'none is archived'}")
        _list(study)
        return
    names = chosen_runs(study, runs, tag)
    try:
        print_lines(study.unpack(*names) if unpack else study.archive(*names))
    except OSError as error:
        raise UsageError(
            f"{error.filename or study.layout.checkpoints} cannot be read or written ({error.strerror}); nothing is "
            "lost: free disk space, then run the command again"
        ) from error


def _list(study: Study) -> None:
    names = study.layout.archived()
    for name in names:
        click.echo(f"{name}: {study.layout.archive(name).stat().st_size / 1e6:.1f} MB")
    if not names:
        click.echo("No run is archived.")
