"""`lvjobs ledger`, and `lvjobs study`, which says where the study of a ledger lives."""

import sys
import time
from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.api.updates import WRITE_WAIT_SECONDS, answer_place
from lvjobs.cli.common import json_option, print_found, study_option, tell
from lvjobs.cli.help import Group
from lvjobs.errors import UsageError
from lvjobs.report.numbers import counted
from lvjobs.report.outputs import TEXT_FORMATS, as_text
from lvjobs.report.terminal.plain_lines import check_lines, rebuild_lines

_FOUND_SOMETHING = 1


@click.group(cls=Group)
def ledger() -> None:
    """Check, copy, rebuild or export runs.db (docs/ledger.md)."""


@ledger.command()
@study_option
@json_option
def check(root: Path, as_json: bool) -> None:
    """Compare runs.db with the run directories and journals, and list problems. Change nothing.

    Exit code 1: problems were found; notes do not count.
    """
    from lvjobs.control.recovery.check import check as check_study

    checked = check_study(Study.open(root), WRITE_WAIT_SECONDS)
    print_found({"schema": 1, **checked.to_dict()}, check_lines(checked.to_dict()), as_json=as_json)
    if not checked.is_fine:
        sys.exit(_FOUND_SOMETHING)


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@study_option
def backup(root: Path, file: Path | None) -> None:
    """Copy runs.db to FILE and check the copy, also while others use it (default: runs.db.<time>.bak beside it).

    The log, from which a lost runs.db is rebuilt, is copied to FILE.log. Existing files are not overwritten. To restore
    a copy, replace runs.db with FILE; run directories stay.
    """
    from lvjobs.api.publish import back_up

    target = back_up(Study.open(root), file)
    click.echo(f"{target}: {target.stat().st_size} bytes")


@ledger.command()
@study_option
@json_option
@click.option("--aside", is_flag=True, help="First rename the existing runs.db to runs.db.<time>.aside.")
def rebuild(root: Path, as_json: bool, aside: bool) -> None:
    """Rebuild runs.db from its log, the run directories, and the scheduler's records of their jobs.

    Submits nothing. Lists what could not be restored.
    """
    from lvjobs.control.backends import cluster_for
    from lvjobs.control.recovery.rebuild import rebuild as rebuild_ledger

    study = Study.open(root)
    made = rebuild_ledger(study, cluster_for, wait=WRITE_WAIT_SECONDS, aside=aside, now=time.time())
    print_found({"schema": 1, **made.to_dict()}, rebuild_lines(made.to_dict(), study.where), as_json=as_json)


@ledger.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@study_option
@click.option("--table", type=click.Choice(("runs", "attempts", "charges", "stages")), help="Write this table only.")
@click.option("--format", "form", type=click.Choice(("csv", "jsonl")), help="Write this format only.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def export(root: Path, directory: Path | None, table: str | None, form: str | None, force: bool) -> None:
    """Write runs, attempts, charges and stages as CSV and JSON lines into DIRECTORY; without one, to the terminal.

    To the terminal: JSON lines, each with its "table"; with --table and --format csv, one table.
    """
    from lvjobs.api.publish import ledger_tables, write_tables

    if directory is None and form == "csv" and table is None:
        raise UsageError("--format csv to the terminal is one table: add --table runs, or name a directory")
    found = ledger_tables(Study.open(root))
    found = {table: found[table]} if table else found
    if directory is None:
        for name, rows in found.items():
            click.echo(as_text(rows, form or "jsonl", table="" if table else name), nl=False)
        return
    write_tables(found, directory, [form] if form else TEXT_FORMATS, force=force)
    click.echo(f"{directory}: {', '.join(counted(len(rows), name) for name, rows in found.items())}")


@click.group(cls=Group)
def study() -> None:
    """Record that a study was moved or copied, where lvjobs cannot see it (docs/ledger.md)."""


@study.command()
@study_option
def moved(root: Path) -> None:
    """Record that the study was moved here: keep its jobs, and continue it here."""
    _answer(root, "moved")


@study.command()
@study_option
def copied(root: Path) -> None:
    """Record that this is a copy of a study still in use: leave its jobs alone, and start nothing automatically."""
    _answer(root, "copied")


def _answer(root: Path, answer: str) -> None:
    from lvjobs.control.recovery.place import StudyOrigin

    here = Study.open(root)
    status, is_answered = answer_place(here, StudyOrigin(answer))
    tell(status)
    if not is_answered:
        click.echo(f"{here.root}: the study is already recorded here; nothing was changed")
