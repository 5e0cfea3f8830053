"""What the command families share: the study, the pass that most commands make, and JSON."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.study.config import Study, load_study

F = TypeVar("F", bound=Callable[..., Any])

READ_WAIT_SECONDS = 3.0
WRITE_WAIT_SECONDS = 60.0
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


def existing_study(root: Path) -> Study:
    """The study in `root`, for commands that only make sense where there is one."""
    study = load_study(root)
    places = (study.layout.config, study.layout.database, study.layout.checkpoints)
    if not any(path.exists() for path in places):
        raise UsageError(
            f"there is no study in {study.root}; type: {remedies.INIT(*study.where)}, or name one with --study"
        )
    return study


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object, indented."""
    click.echo(json.dumps(value, indent=1))


def current_summary(study: Study, *, make_pass: bool) -> dict[str, Any]:
    """The summary of a pass made now; the last one's where none can be made (`stale` then says why)."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.recovery.place import PlaceUnclear
    from lvjobs.control.summary_file import read_summary
    from lvjobs.ledger.lease import LeaseTaken

    stale = "no pass was made (--no-pass)"
    if make_pass:
        try:
            with open_session(study, wait=READ_WAIT_SECONDS) as session:
                return session.make_pass()
        except (LeaseTaken, PlaceUnclear) as error:
            if read_summary(study.layout.summary) is None:
                raise  # there is nothing to show, and this is what has to be remedied
            stale = str(error)
    summary = read_summary(study.layout.summary, study.where)
    if summary is None:
        raise UsageError(f"no pass was made over {study.root} yet; type: {remedies.STATUS(*study.where)}")
    return {**summary, "stale": stale, "age_seconds": time.time() - summary["time"]}


def tell(summary: Mapping[str, Any]) -> None:
    """What a pass did and what was wrong, in words."""
    for line in summary["did"]:
        click.echo(line)
    tell_problems(summary)


def tell_problems(summary: Mapping[str, Any]) -> None:
    """What was wrong, or that no pass was made, in words."""
    for line in summary["problems"]:
        click.echo(f"note: {line}", err=True)
    if "stale" in summary:
        click.echo(f"note: {summary['stale']}; this is how things stood {summary['age_seconds']:.0f} s ago", err=True)
