"""Makes docs/api-reference.md from signatures and docstrings; `python scripts/make_reference.py` writes it."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from make_reference import NOTE, inline, table

from lvjobs.api import results
from lvjobs.api.study import Study
from lvjobs.api.view import StudyView

API_HEAD = """# Python API: reference

`import lvjobs` offers `lvjobs.Study`. [The guide](api.md) has examples. FLOPs are integers, times are seconds since the
epoch.
"""


def api_reference() -> str:
    """Return docs/api-reference.md."""
    parts = [NOTE, API_HEAD, "## Study\n", *_docstring(Study)]
    for name, found in {**vars(Study), **vars(StudyView)}.items():
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
