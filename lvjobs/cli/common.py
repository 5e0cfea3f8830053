"""Options and output that the command families share."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lvjobs.api.results import Status

F = TypeVar("F", bound=Callable[..., Any])

_TYPED = "lvjobs.typed"


def study_option(function: F) -> F:
    """--study DIR / LVJOBS_STUDY, the current directory by default."""
    option = click.option(
        "--study",
        "root",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(),
        envvar="LVJOBS_STUDY",
        callback=_keep_root,
        help="The study's directory (default: the current one; also $LVJOBS_STUDY).",
    )
    return option(function)


def _keep_root(context: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    """Keep the study's directory for `lvjobs.cli.main`, which may have to name the study after Ctrl-C."""
    if isinstance(context.obj, dict):
        context.obj["root"] = root
    return root


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")(function)


def because_option(name: str, text: str) -> Callable[[F], F]:
    """--because TEXT, handed over as `name`: in UTF-8, as the ledger has it, whatever the terminal's locale is."""
    return click.option("--because", name, default="", callback=_legible, help=text)


def _legible(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Read bytes that the locale could not decode as UTF-8, and replace those that are not UTF-8 either."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


class Remembering(click.Command):
    """A command that knows what was typed after its name, for `repeated`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words, and parse them."""
        ctx.meta[_TYPED] = tuple(args)
        return super().parse_args(ctx, args)


def repeated(but: Collection[str]) -> tuple[str, ...]:
    """Return the options of the command that runs (a `Remembering`) as they were typed, but for these and their values.

    A message that tells one to type the command again needs them: else it would be about another study or profile.
    """
    context = click.get_current_context()
    known = {name: option for option in context.command.params for name in (*option.opts, *option.secondary_opts)}
    words, kept = list(context.meta[_TYPED]), []
    while words:
        word = words.pop(0)
        name, _, value = word.partition("=")
        option = known.get(name)
        takes_value = isinstance(option, click.Option) and not option.is_flag and not value
        taken = [word, words.pop(0)] if takes_value and words else [word]
        if name not in but:
            kept += taken
    return tuple(kept)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object, indented."""
    click.echo(json.dumps(value, indent=1))


def tell(status: Status) -> None:
    """Print what an update did, and what was wrong."""
    for line in status.changes:
        click.echo(line)
    tell_problems(status)


def print_update(status: Status, *, as_json: bool) -> None:
    """Print what an update did and what was wrong, or the summary as JSON."""
    if as_json:
        print_json(status.summary)
    else:
        tell(status)


def tell_problem(words: str) -> None:
    """Print a note, if there is one."""
    if words:
        click.echo(f"note: {words}", err=True)


def tell_problems(status: Status) -> None:
    """Print what was wrong, or that no pass was made."""
    for line in status.problems:
        click.echo(f"note: {line}", err=True)
    if status.stale:
        age = status.summary["age_seconds"]
        click.echo(f"note: {status.stale}; this is how things stood {age:.0f} s ago", err=True)
