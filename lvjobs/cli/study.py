"""`lvjobs study`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.api.updates import say_place
from lvjobs.cli.common import study_option, tell


@click.group()
def study() -> None:
    """Say whether a study was moved or copied, where lvjobs cannot see it (docs/ledger.md)."""


@study.command()
@study_option
def moved(root: Path) -> None:
    """Say that the study was moved here: keep its jobs, and continue it from here."""
    _answer(root, "moved")


@study.command()
@study_option
def copied(root: Path) -> None:
    """Say that this is a copy of a study still in use: leave its jobs alone, and start nothing here by itself."""
    _answer(root, "copied")


def _answer(root: Path, answer: str) -> None:
    from lvjobs.control.recovery.place import StudyOrigin

    here = Study.open(root)
    status, is_answered = say_place(here, StudyOrigin(answer))
    tell(status)
    if not is_answered:
        click.echo(f"{here.root}: the study lives here already, and nothing was changed")
