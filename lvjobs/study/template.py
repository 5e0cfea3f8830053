"""The tables of study.toml, read from their models, and the commented file that `lvjobs init` writes from them."""

import inspect
import json
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lvjobs.study.config import StudyConfig
from lvjobs.study.fields import leaves
from lvjobs.study.presets import STUDIES
from lvjobs.study.run import model_of
from lvjobs.study.settings import OwnSettings, ProgramSettings, RunSettings, TrainSettings
from lvjobs.study.space import Range, Search
from lvjobs.study.stages import Prune, Stage

_COLUMN, _WIDTH = 36, 120
"""The columns at which comments begin and end."""

_HEAD = """\
# study.toml: what is trained, where, and how many FLOPs it may cost. All keys: docs/study-toml.md
# A line such as `# seed = 0` shows a key that is not set, with its default: remove the # to set it. Where the comment
# names the default, the value is an example.
# Numbers may be written as 1e-5, 1e17 or 5_000.
"""
_STAGES = """\
# Stages: sets of runs that are compared, and evaluations (docs/sweeps.md). `lvjobs plan` shows what they cost;
# `lvjobs sweep all` runs each of them once the stages that it needs are done.
"""
_MORE_STAGES = "# Every key that a stage may have, in three examples:\n"
_EXAMPLES = (
    Stage(
        name="my_grid",
        origin="stage1",
        take=["learning_rate"],
        after=["base"],
        grid={"batch_size": [4, 8]},
        set={"context_length": 512},
        steps=500,
        seeds=[0, 1, 2],
        prune=Prune(first=100),
        quorum=1,
    ),
    Stage(
        name="my_search",
        space={"learning_rate": Range(low=1e-5, high=1e-3, log=True), "lora_rank": Range(low=2, high=8, step=2)},
        search=Search(trials=20, parallel=4, startup=10),
    ),
    Stage(name="my_scores", zero_shot=["raw"], evaluate=["base"]),
)
"""Stages that together show each key once: not every key can be combined with every other."""


@dataclass(frozen=True)
class TableSection:
    """A table of study.toml, or a group of its keys, as a model declares it."""

    header: str
    about: str
    keys: Mapping[str, FieldInfo]


def sections() -> Iterator[TableSection]:
    """Yield all tables of study.toml in the order in which a reader needs them."""
    tables = {name: model for name, field in StudyConfig.model_fields.items() if (model := model_of(field.annotation))}
    yield _section("", StudyConfig, leave=tables)
    for name, model in tables.items():
        if name == "train":
            yield _section("[train]", RunSettings)
            yield _section("[train]", TrainSettings, leave=RunSettings.model_fields)
            yield _section("[train]", OwnSettings, leave=RunSettings.model_fields)
            yield _section("[train]", ProgramSettings, leave=OwnSettings.model_fields)
            yield from _inner("train", ProgramSettings)
        elif name == "stage":
            yield _section("[[stage]]", Stage)
            yield from _inner("stage", Stage)
        else:
            yield _section(f"[{name}]", model)


def _inner(table: str, model: type[BaseModel]) -> Iterator[TableSection]:
    """Yield the tables in a table."""
    for key, field in model.model_fields.items():
        if inner := model_of(field.annotation):
            yield _section(f"[{table}.{key}]", inner)


def _section(header: str, model: type[BaseModel], leave: Collection[str] = ()) -> TableSection:
    about = " ".join(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].split())
    keys = {field.alias or name: field for name, field in model.model_fields.items() if name not in leave}
    return TableSection(header, about, keys)


def study_toml(profile: str, resources: Mapping[str, Any], defaults: Mapping[str, Any], preset: str) -> str:
    """Return a study.toml for `profile` with a preset's stages; its comments show the profile's own `defaults`."""
    train, stages = STUDIES[preset]
    live = {"": {"profile": profile}, "[resources]": resources, "[train]": train}
    shown = _shown_defaults(defaults)
    parts, header = [_HEAD], ""
    for section in sections():
        opening = _comment(section.about) if section.header else ""
        if section.header != header:
            header = section.header
            opening = f"{header}\n{opening}"
        if header == "[[stage]]":
            parts += [_STAGES, *map(_stage, stages), _MORE_STAGES, *_examples()]
        elif {"task", "command"} & section.keys.keys():  # its own settings exclude all others
            parts.append(opening)
        elif "." not in header:
            parts.append(opening + _keys(section, live.get(header, {}), shown if header == "[resources]" else {}))
    return "\n".join(parts)


def program_toml(profile: str, resources: Mapping[str, Any], defaults: Mapping[str, Any], train: str) -> str:
    """Return a study.toml for a program: `train` is the text of [train] and of the stages; see `study_toml`."""
    live = {"": {"profile": profile}, "[resources]": resources}
    parts, header = [_HEAD], None
    for section in sections():
        if section.header == "[train]" and header != "[train]":
            parts.append(train)
        elif not section.header.startswith(("[train", "[[stage]]", "[stage.", "[evaluation]")):
            opening = f"{section.header}\n{_comment(section.about)}" if section.header else ""
            shown = _shown_defaults(defaults) if section.header == "[resources]" else {}
            parts.append(opening + _keys(section, live.get(section.header, {}), shown))
        header = section.header
    return "\n".join(parts)


def _shown_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile's defaults as keys of [resources]."""
    shown = dict(defaults)
    if minutes := shown.get("time_limit_minutes"):
        shown["time_limit"] = f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:00"
    return shown


def _keys(section: TableSection, live: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    known = {key: value for key, value in {**shown, **live}.items() if value is not None}
    lines = []
    for key, field in section.keys.items():
        default = field.get_default(call_default_factory=True)
        value = known.get(key, next(iter(field.examples or ()), "") if default is None else default)
        lines.append(_line(key, value, field, "" if key in live else "# "))
    return "".join(lines)


def _examples() -> Iterator[str]:
    """Yield the commented stages, each with the keys that no earlier one shows."""
    tables = {section.header: section for section in sections()}
    known: set[str] = set()
    for stage in _EXAMPLES:
        text, inner = "# [[stage]]\n", ""
        values = stage.model_dump(mode="json", by_alias=True, exclude_none=True)
        for key, value in values.items():
            field = tables["[[stage]]"].keys[key]
            if value in ({}, []) or key in known - {"name"}:
                continue
            if table := tables.get(f"[stage.{key}]"):
                inner += f"# {table.header:<{_COLUMN - 2}}# {field.description}\n"
                inner += "".join(_line(name, item, table.keys.get(name)) for name, item in value.items())
            else:
                text += _line(key, value, field)
            known.add(key)
        yield text + inner


def _stage(stage: Stage) -> str:
    values = stage.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return "[[stage]]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())


def _line(key: str, value: Any, field: FieldInfo | None, mark: str = "# ") -> str:
    """Return the line of a key with its value, after `mark`, and its description as a comment."""
    entry = f"{mark}{key} = {toml_value(value)}"
    if field is None:
        return entry + "\n"
    text = field.description or ""
    if choices := [json.dumps(leaf) for leaf in leaves(field.annotation) if isinstance(leaf, str)]:
        text += f" ({', '.join(choices[:-1])} or {choices[-1]})"
    if len(entry) >= _COLUMN:
        return f"{entry}\n{_comment(text, ' ' * _COLUMN)}"
    return entry + _comment(text, " " * _COLUMN)[len(entry) :]


def _comment(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(text, _WIDTH - len(indent) - 2, break_on_hyphens=False)
    return "".join(f"{indent}# {line}\n" for line in lines)


def toml_value(value: Any) -> str:
    """Return the value as TOML on one line: tables are inline, large numbers short."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**9:
        return f"{value:.0e}".replace("e+", "e")
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value).replace("e-0", "e-") if isinstance(value, float) else json.dumps(value)
