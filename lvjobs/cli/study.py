"""`lvjobs study`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, study_option, tell

if TYPE_CHECKING:
    from lvjobs.control.recovery.place import Verdict


@click.group()
def study() -> None:
    """Say whether a study was moved or copied, where lvjobs cannot see it (docs/ledger.md)."""


@study.command()
@study_option
def moved(root: Path) -> None:
    """Say that the study was moved here: keep its jobs, and continue it from here."""
    from lvjobs.control.recovery.place import Verdict

    _answer(root, Verdict.MOVED)


@study.command()
@study_option
def copied(root: Path) -> None:
    """Say that this is a copy of a study still in use: leave its jobs alone, and start nothing here by itself."""
    from lvjobs.control.recovery.place import Verdict

    _answer(root, Verdict.COPIED)


def _answer(root: Path, answer: "Verdict") -> None:
    from lvjobs.control.loop import open_session

    here = existing_study(root)
    with open_session(here, wait=WRITE_WAIT_SECONDS, answer=answer) as session:
        is_answered = bool(session.arrival.news)
        tell(session.make_pass())
    if not is_answered:
        click.echo(f"{here.root}: the study lives here already, and nothing was changed")
