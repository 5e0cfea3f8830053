"""`lvjobs study`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvjobs.api.study import Study
from lvjobs.api.updates import say_place
from lvjobs.cli.common import study_option, tell

if TYPE_CHECKING:
    from lvjobs.control.recovery.place import StudyOrigin


@click.group()
def study() -> None:
    """Say whether a study was moved or copied, where lvjobs cannot see it (docs/ledger.md)."""


@study.command()
@study_option
def moved(root: Path) -> None:
    """Say that the study was moved here: keep its jobs, and continue it from here."""
    from lvjobs.control.recovery.place import StudyOrigin

    _answer(root, StudyOrigin.MOVED)


@study.command()
@study_option
def copied(root: Path) -> None:
    """Say that this is a copy of a study still in use: leave its jobs alone, and start nothing here by itself."""
    from lvjobs.control.recovery.place import StudyOrigin

    _answer(root, StudyOrigin.COPIED)


def _answer(root: Path, answer: "StudyOrigin") -> None:
    here = Study.open(root)
    status, is_answered = say_place(here, answer)
    tell(status)
    if not is_answered:
        click.echo(f"{here.root}: the study lives here already, and nothing was changed")
