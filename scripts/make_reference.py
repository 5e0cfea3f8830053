"""Writes docs/cli.md, study-toml.md and api-reference.md from the code: python scripts/make_reference.py.

tests/unit/test_docs.py fails where a page is no longer what this gives.
"""

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lvjobs.api import results
from lvjobs.api.stages import StudyStages
from lvjobs.api.study import Study
from lvjobs.api.view import StudyView
from lvjobs.cli import cli
from lvjobs.cli.sweep import stage
from lvjobs.study.run import model_of
from lvjobs.study.template import sections, toml_value

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- Written by `python scripts/make_reference.py`: change what it reads, never this page. -->\n"

CLI_HEAD = """# Commands

Every command has `-h, --help`, and most have these:

| option | meaning |
|---|---|
| `--study DIRECTORY` | the study's directory; else `$LVJOBS_STUDY`, else the current one |
| `--json` | prints JSON ([the shapes](json.md)) |

They are left out below. Exit codes: 0, done; 1, it could not be done; 2, what was typed makes no sense; 130,
interrupted. An error is one line: what happened, what it means for the run, what to type.
"""

TOML_HEAD = """# study.toml

Every key there is, with what it takes and what it is when it is left out. An absent file means every default;
`lvjobs init` writes one, commented. A key that is not here is an error, which names the nearest that is.
Numbers may be written as people write them: `1e-5`, `1e17`, `5_000`.
"""

API_HEAD = """# Python API: reference

`import lvjobs` offers `lvjobs.Study`. [The guide](api.md) has examples. FLOPs are integers, times are seconds since the
epoch.
"""

OMITTED = ("root", "as_json")
"""Options of nearly every command."""


def cli_reference() -> str:
    """docs/cli.md."""
    parts = [NOTE, CLI_HEAD]
    top = click.Context(cli, info_name="lvjobs")
    commands = [(name, cli.get_command(top, name)) for name in cli.list_commands(top)]
    rows = [[f"[`lvjobs {name}`](#lvjobs-{name})", _first_sentence(found)] for name, found in commands if found]
    parts.append(table(["command", "what it does"], rows))
    for name, found in commands:
        if found is not None:
            parts.extend(_command(found, click.Context(found, info_name=name, parent=top), 2))
    return "\n".join(parts)


def _command(command: click.Command, context: click.Context, depth: int) -> Iterator[str]:
    """A command's section, and those of the commands in it."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)]).replace("sweep sweep", "sweep")
    yield f"{'#' * depth} {context.command_path}\n"
    yield f"```text\n{usage}\n```\n"
    yield _prose(command.help or command.short_help or "")
    rows = [_option(each) for each in command.params if _is_shown(each)]
    if rows:
        yield table(["option", "default", "meaning"], rows)
    if not isinstance(command, click.Group):
        return
    if context.command_path == "lvjobs sweep":  # any word that is no command of it
        yield from _command(stage, click.Context(stage, info_name="STAGE", parent=context), depth + 1)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None and not inner.hidden:
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), depth + 1)


def _is_shown(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.name not in OMITTED and not parameter.hidden


def _option(parameter: click.Parameter) -> list[str]:
    assert isinstance(parameter, click.Option)
    names = [*parameter.opts, *parameter.secondary_opts]
    value = "" if parameter.is_flag or parameter.count else f" {_value(parameter)}"
    default = ""
    if parameter.show_default and isinstance(parameter.default, (str, int, float)) and not parameter.is_flag:
        default = f"`{parameter.default}`"
    return [f"`{', '.join(names)}{value}`", default, inline(parameter.help or "")]


def _value(parameter: click.Option) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice):
        return f"[{'|'.join(parameter.type.choices)}]"
    return parameter.type.name.split()[0].upper()


def _first_sentence(command: click.Command) -> str:
    """Up to the first full stop that ends a sentence."""
    text = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return inline(re.split(r"(?<=[\w)])\.(?:\s|$)", text)[0])


def _prose(text: str) -> str:
    """Return a command's help as Markdown; a paragraph after click's mark for one that is not wrapped is a block."""
    found = []
    for each in inspect.cleandoc(text).split("\n\n"):
        block = each.partition("\b\n")[2]
        found.append(f"```text\n{block}\n```" if block else inline(" ".join(each.split())))
    return "\n\n".join(found) + "\n"


def inline(text: str) -> str:
    """Return words of a terminal as Markdown: pages are linked, and nothing is markup by accident."""
    text = text if "`" in text else re.sub(r"([<*])", r"\\\1", text)
    return re.sub(r"docs/([\w-]+)\.md", r"[\1](\1.md)", text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines]) + "\n"


def study_reference() -> str:
    """Return docs/study-toml.md."""
    parts, header = [NOTE, TOML_HEAD, "## At the top\n"], ""
    for section in sections():
        if section.header != header:
            header = section.header
            parts.append(f"{'###' if '.' in header else '##'} {header}\n")
        if header:
            parts.append(inline(section.about) + "\n")
        rows = [
            [f"`{key}`", _kind(field.annotation), _default(field), inline(field.description or "")]
            for key, field in section.keys.items()
        ]
        parts.append(table(["key", "takes", "left out", "meaning"], rows))
    return "\n".join(parts)


_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value"}


def _kind(annotation: Any) -> str:
    """What a key takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        return ", ".join(dict.fromkeys(_kind(each) for each in arguments if each is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(each)}`" for each in arguments)
    if origin is list:
        return f"a list: {_kind(arguments[0])}"
    if origin is dict:
        return "a table"
    if model_of(annotation):
        return "a table"
    return _KINDS.get(annotation, "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ({}, []):
        return ""
    return f"`{toml_value(value.model_dump(mode='json') if isinstance(value, BaseModel) else value)}`"


def api_reference() -> str:
    """Return docs/api-reference.md."""
    parts = [NOTE, API_HEAD, "## Study\n", *_docstring(Study)]
    for name, found in {**vars(Study), **vars(StudyStages), **vars(StudyView)}.items():
        function = getattr(found, "__func__", found)
        if inspect.isfunction(function) and not name.startswith("_"):
            parts += [f"### Study.{name}\n", _signature(function), *_docstring(function)]
    parts.append("## What it returns\n")
    for kind in vars(results).values():
        if inspect.isclass(kind) and is_dataclass(kind):
            parts += [f"### {kind.__name__}\n", *_docstring(kind), _members(kind)]
    return "\n".join(parts)


def _members(kind: type) -> str:
    """Return a dataclass's fields with their types, and its properties and methods with what they return."""
    own = {name: getattr(each, "fget", each) for name, each in vars(kind).items() if not name.startswith("_")}
    rows = [[f"`{field.name}`", f"`{_annotation(field.type)}`"] for field in fields(kind)]
    for name, each in own.items():
        if inspect.isfunction(each):
            call = "" if isinstance(vars(kind)[name], property) else "()"
            rows.append([f"`{name}{call}`", inline(inspect.getdoc(each) or "")])
    return table(["name", "type, or what it returns"], rows)


def _annotation(annotation: Any) -> str:
    """Return an annotation as a reader would write it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)|'|\"", "", text)


def _signature(function: Any) -> str:
    lines = []
    for name, each in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            continue
        default = "" if each.default is each.empty else f" = {_value_of(each.default)}"
        star = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        if each.kind is each.KEYWORD_ONLY and "*" not in "".join(lines):
            lines.append("*")
        lines.append(f"{star}{name}: {_annotation(each.annotation)}{default}")
    made = f"({', '.join(lines)}) -> {_annotation(inspect.signature(function).return_annotation)}"
    return f"```text\n{function.__name__}{made}\n```\n"


def _value_of(default: Any) -> str:
    return "..." if callable(default) else repr(default)


def _docstring(thing: Any) -> Iterator[str]:
    """The sections of a docstring in Google's style: prose, a table of arguments, what is returned and raised."""
    for section in inspect.cleandoc(thing.__doc__).split("\n\n"):
        head, _, body = section.partition("\n")
        if head not in ("Args:", "Raises:", "Returns:", "Example:"):
            yield inline(" ".join(section.split())) + "\n"
        elif head == "Example:":
            yield f"```pycon\n{textwrap.dedent(body)}\n```\n"
        elif head == "Returns:":
            yield f"Returns: {inline(' '.join(body.split()))}\n"
        else:
            items = re.split(r"\n(?=\S)", textwrap.dedent(body))
            rows = [
                [f"`{name}`", inline(" ".join(text.split()))] for name, _, text in (it.partition(": ") for it in items)
            ]
            yield table(["argument" if head == "Args:" else "raises", "meaning"], rows)


PAGES = {"cli.md": cli_reference, "study-toml.md": study_reference, "api-reference.md": api_reference}


def main() -> None:
    """Write the pages."""
    for name, made in PAGES.items():
        (DOCS / name).write_text(made(), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
