"""Guesses from a program's source: the library that it uses, its checkpoint, and the lines that it prints. Pure.

The source is searched as text. It is not imported or executed.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath

from lvjobs.study.program.presets import PresetName

_LIBRARIES: Sequence[tuple[PresetName, str, str]] = (
    ("huggingface", r"^\s*(from|import)\s+trl\b|\b\w*TrainingArguments\b", "the Trainer of transformers"),
    ("lightning", r"^\s*(from|import)\s+(pytorch_)?lightning\b", "Lightning"),
    ("ultralytics", r"^\s*(from|import)\s+ultralytics\b", "ultralytics"),
    ("torchtitan", r"^\s*(from|import)\s+torchtitan\b", "torchtitan"),
    ("accelerate", r"^\s*(from|import)\s+accelerate\b", "accelerate"),
    ("torch-save", r"\btorch\.save\(", "torch.save"),
)
"""A preset, what shows it in a source, and the name of what was found; the first that is found counts."""

_TRANSFORMERS = re.compile(r"^\s*(from|import)\s+(transformers|trl|axolotl|llamafactory)\b", re.MULTILINE)
_PROGRAMS: Sequence[tuple[PresetName, frozenset[str]]] = (
    ("huggingface", frozenset({"axolotl", "axolotl.cli.train", "llamafactory-cli", "trl"})),
    ("ultralytics", frozenset({"yolo"})),
    ("torchtitan", frozenset({"torchtitan", "torchtitan.train"})),
    ("accelerate", frozenset({"accelerate"})),
)
_SAVED = re.compile(
    r"torch\.save\([^\n]*?(?P<formatted>f?)(?P<quote>['\"])(?P<name>[^'\"\n]+\.(?:pt|pth|ckpt|tar|bin))(?P=quote)"
)
_FIELD = re.compile(r"\{(?P<value>[^{}:!]*)(?:[:!][^{}]*)?\}")
_PRINTED = re.compile(r"""print\(\s*f(?P<quote>['"])(?P<text>[^'"\n]*\{[^'"\n]*)(?P=quote)""")
_COUNTER = re.compile(r"(?:^|[^a-z])(step|iter)", re.IGNORECASE)
_NUMBER = r"[-+.\deEnaif]+"


def script_of(words: Sequence[str]) -> str:
    """Return the path of the Python script that a command runs; empty if it runs none."""
    for place, word in enumerate(words):
        if word.endswith(".py") and not word.startswith("-") and "=" not in word:
            return word
        if word == "-m" and place + 1 < len(words) and re.fullmatch(r"\w+(\.\w+)*", words[place + 1]):
            return words[place + 1].replace(".", "/") + ".py"
    return ""


def preset_of(words: Sequence[str], source: str) -> tuple[PresetName, str] | None:
    """Return the preset of a program, and what shows it; None if nothing does."""
    for preset, pattern, name in _LIBRARIES:
        is_shown = bool(re.search(pattern, source, re.MULTILINE))
        if is_shown and (preset != "huggingface" or _TRANSFORMERS.search(source)):
            return preset, f"{script_of(words)} uses {name}"
    names = {PurePath(word).name for word in words}
    for preset, programs in _PROGRAMS:
        if found := sorted(names & programs):
            return preset, f"the command has {found[0]}"
    return None


def checkpoint_of(source: str) -> str:
    """Return the checkpoint that a source writes by torch.save, such as `{out}/ckpt.pt`; empty if none is seen."""
    match = _SAVED.search(source)
    if match is None:
        return ""
    name = PurePath(match["name"]).name
    if match["formatted"]:
        name = _FIELD.sub(lambda each: "{step}" if _COUNTER.search(each["value"]) else "*", name)
        name = re.sub(r"(\{step\}.*)\{step\}", r"\1*", name)
    return f"{{out}}/{name}" if re.fullmatch(r"(\{step\}|[\w.*-])+", name) else ""


def resume_of(source: str) -> list[str]:
    """Return the arguments by which a source is given its checkpoint; empty if none are seen."""
    if re.search(r"\binit_from\b", source) and "'resume'" in source.replace('"', "'"):
        return ["--init_from=resume"]
    match = re.search(
        r"['\"](--(?:resume_from_checkpoint|resume-from|resume_from|resume|ckpt_path))['\"]([^\n]*)", source
    )
    return [match[1], "{checkpoint}"] if match and "store_true" not in match[2] else [match[1]] if match else []


def reports_itself(source: str) -> bool:
    """Return whether a source reports its steps to lvjobs, by `lvjobs log` or in the file of $LVJOBS_PROGRESS."""
    return bool(re.search(r"\bLVJOBS_PROGRESS\b|\blvjobs\W{1,5}log\b", source))


def progress_of(source: str) -> str:
    """Return a regular expression of the lines with a step that a source prints; empty if none are seen."""
    found = [expression for match in _PRINTED.finditer(source) if (expression := _expression(match["text"]))]
    return next((each for each in found if "(?P<loss>" in each), next(iter(found), ""))


def _expression(text: str) -> str:
    """Return the regular expression of an f-string up to its loss; empty if it has no step."""
    made, end, has_step = "", 0, False
    for each in _FIELD.finditer(text):
        made += _escaped(text[end : each.start()])
        end = each.end()
        before, value = text[: each.start()], each["value"]
        is_counter = bool(_COUNTER.search(value) or re.search(r"(?i)\b(step|iter)\w*[\s:=]*$", before))
        if is_counter and not has_step:
            made, has_step = _spaced(made) + r"(?P<step>\d+)", True
        elif has_step and re.search(r"(?i)loss", value + before[-8:]):
            return f"{_spaced(made)}(?P<loss>{_NUMBER})"
        else:
            made += r"\S+"
    return made if has_step else ""


def _spaced(expression: str) -> str:
    """Return the expression with room for the spaces before a padded number."""
    return expression if expression.endswith(r"\s+") else rf"{expression}\s*"


def _escaped(text: str) -> str:
    """Return literal text as a regular expression: spaces may repeat, because numbers are padded."""
    return re.sub(r"(\\ |\s)+", r"\\s+", re.escape(text.replace("\\t", " ").replace("\\n", "").replace("\\r", "")))
