"""Options and output that several commands share."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from lvjobs.api.results import Status
from lvjobs.api.select import names_of, tagged
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext

F = TypeVar("F", bound=Callable[..., Any])

_TYPED = "lvjobs.typed"


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds several options to a command. `--help` lists them in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _new_root(context: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    """Keep the study's directory for `lvjobs.cli.main`, which names the study in its message after Ctrl-C."""
    if isinstance(context.obj, dict):
        context.obj["root"] = root
    return root


def _find_root(context: click.Context, parameter: click.Parameter, root: Path) -> Path:
    """Return the study's directory: unless one was given, the study that contains the current directory."""
    if context.get_parameter_source("root") is ParameterSource.DEFAULT:
        from lvjobs.study.found import study_above

        with suppress(OSError):  # the current directory may be gone
            root = study_above(Path.cwd()) or root
    return _new_root(context, parameter, root)


_study = partial(
    click.option,
    "--study",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="LVJOBS_STUDY",
)
study_option = _study(
    callback=_find_root,
    help="The study's directory (default: the current one, or the study that contains it; also $LVJOBS_STUDY).",
)
new_study_option = _study(callback=_new_root, help="The new study's directory (default: the current one).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, option: str) -> float:
    """Return the seconds of a time span such as `30m`. Raises UsageError for another text, which `option` got."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise UsageError(f"{option} {text}: write a time with its unit, such as 30m, 12h or 2d")
    return float(match[1]) * _UNITS[match[2]]


def tag_option(function: F) -> F:
    """Add --tag, which names runs beside the argument RUNS, as `tag`."""
    return click.option("--tag", default="", help="Also the runs with this tag (lvjobs tag).")(function)


def chosen_runs(study: StudyContext, runs: Sequence[str], tag: str) -> list[str]:
    """Return the runs that a command was given by name and by tag. Raises UsageError if none was given."""
    if not (runs or tag):
        raise UsageError("name at least one run: by its name, the end of its name, a job id, a stage, or --tag")
    named = names_of(study, runs)
    return list(dict.fromkeys([*named, *(tagged(study, tag) if tag else ())]))


def because_option(name: str, text: str) -> Callable[[F], F]:
    """Return a decorator that adds --because TEXT as `name`. Its value is UTF-8 in any locale, as in the ledger."""
    return click.option("--because", name, default="", callback=_legible, help=text)


def _legible(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Decode as UTF-8 the bytes that the locale could not decode, and replace those that are not UTF-8."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def complete_runs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the matching runs of the study, from the last pass's summary: completion does not ask the cluster."""
    from lvjobs.control.summary_file import read_summary
    from lvjobs.study.layout import StudyLayout

    root = Path(ctx.params.get("root") or ".")
    try:
        summary = read_summary(StudyLayout(root).summary)
    except (OSError, ValueError, KeyError):
        summary = None  # no names to complete, and completion cannot show an error
    states = summary.runs.states if summary else {}
    return [CompletionItem(name, help=state) for name, state in states.items() if name.startswith(incomplete)]


class Remembering(Command):
    """A command that keeps the words typed after its name, for `repeated`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words, then parse them."""
        ctx.meta[_TYPED] = tuple(args)
        return super().parse_args(ctx, args)


def repeated(but: Collection[str]) -> tuple[str, ...]:
    """Return the options of the running command (a `Remembering`) as they were typed, without those in `but`.

    A message that suggests to type the command again needs them. Otherwise the suggested command could use another
    study or profile.
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
    """Print one JSON object, indented."""
    click.echo(json.dumps(value, indent=1))


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print each line; with `err` to stderr."""
    for line in lines:
        click.echo(line, err=err)


def print_found(found: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found: as JSON, or as lines of text."""
    if as_json:
        print_json(found)
    else:
        print_lines(lines)


def tell(status: Status) -> None:
    """Print an update's changes and its problems."""
    print_lines(status.changes)
    print_problems(status)


def print_update(status: Status, *, as_json: bool) -> None:
    """Print an update's changes and its problems, or its summary as JSON."""
    if as_json:
        print_json(status.summary)
    else:
        tell(status)


def print_problem(words: str) -> None:
    """Print a note to stderr, if there is one."""
    if words:
        click.echo(f"note: {words}", err=True)


def print_problems(status: Status) -> None:
    """Print an update's problems to stderr, and a note if no pass was made."""
    for line in status.problems:
        click.echo(f"note: {line}", err=True)
    if status.stale:
        age = status.stored["age_seconds"]
        click.echo(f"note: {status.stale}; the state shown is {age:.0f} s old", err=True)
