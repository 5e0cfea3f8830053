"""`lvjobs tag` and `lvjobs note`: the user's words on runs."""

from collections import defaultdict
from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import complete_runs, json_option, print_json, print_update, study_option
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError


@click.command(cls=Command)
@click.argument("tag", required=False)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@study_option
@click.option("--remove", is_flag=True, help="Remove the tag from these runs.")
@json_option
def tag(tag: str | None, runs: tuple[str, ...], root: Path, remove: bool, as_json: bool) -> None:
    """Give RUNS a TAG, by which other commands choose them (--tag). Without arguments, list the tags."""
    study = Study.open(root)
    if tag is None:
        _list(study, as_json=as_json)
        return
    if not runs:
        raise UsageError(f"name the runs that get the tag {tag}, after it")
    print_update(study.tag(tag, *runs, remove=remove), as_json=as_json)


def _list(study: Study, *, as_json: bool) -> None:
    """Print each tag with its runs, by the last update."""
    status, found = study.status(reconcile=False), defaultdict(list)
    for run in status.runs:
        for each in run.tags or ():
            found[each].append(run.name)
    if as_json:
        print_json({"schema": 1, "tags": found})
        return
    for name in sorted(found):
        click.echo(f"{name}: {', '.join(found[name])}")
    if not found:
        click.echo("No run has a tag.")


@click.command(cls=Command)
@click.argument("run", shell_complete=complete_runs)
@click.argument("text", nargs=-1, required=True)
@study_option
@json_option
def note(run: str, text: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Add a note to the history of RUN, which `lvjobs show` and `lvjobs status RUN` print."""
    print_update(Study.open(root).note(run, " ".join(text)), as_json=as_json)
