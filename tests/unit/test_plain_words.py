"""The English of what lvjobs prints: no private words, and no message that is longer than two lines."""

import ast
import re

import click
import pytest
from message_texts import NO_MESSAGE, modules, texts

from lvjobs.cli import cli

BANNED = re.compile(
    r"\b(?:die|dies|died|deaths?|forgiven|redone|done again|mend|mended|mends|tell|tells|told|whoever|misfortunes?"
    r"|purse|crew|story|for good|for ever|nobody|goes on|go on|went on|taken up|takes? up|takes? it up|asked for"
    r"|asks for|nobody asked|the handout|stands by)\b|\b(?:a|the next|the last|last|each|every|no|one) pass\b|\bpasses\b",
    re.IGNORECASE,
)
"""The words that STYLE rules out: each has a standard term of Slurm, of machine learning, or of plain English."""
LONGEST = 200
"""The characters in two lines of 100 columns. Fields of a message count as one character each."""
EXEMPT = {
    "worker/program/end.py": "patterns of what other programs print",
    "worker/container_probe.py": "a program for another Python",
    "cluster/refusals.py": "patterns of what Slurm prints",
    "records/failure.py": "patterns of what other programs print",
    "forecasting/tokens.py": "the instruction of a prompt",
    "flops/published.py": "explanations of a published table",
    "flops/tables.py": "explanations of a published table",
}
_SQL = re.compile(r"\A(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP)\b")


NOTES = ("report/comparisons.py", "report/page/answer.py")
"""Modules whose texts are notes below a table of the report, which have room for more."""


def messages():
    """Yield the place and the text of each text that may be a message."""
    for name, tree in modules():
        if name in NO_MESSAGE or name in EXEMPT or "migrations/" in name:
            continue
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for line, text in texts(tree):
            if " " in text and id(text) not in documented and not _SQL.match(text):
                yield f"{name}:{line}", text


def helps(command=cli, path=("lvjobs",)):
    """Yield the words of each command and the texts of its help."""
    yield " ".join(path), command.help or ""
    for option in command.params:
        yield f"{' '.join(path)} {option.name}", getattr(option, "help", None) or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from helps(command.get_command(click.Context(command), name), (*path, name))


def test_no_message_has_a_private_word():
    found = [f"{place}: {match[0]!r} in {text[:80]!r}" for place, text in messages() if (match := BANNED.search(text))]
    assert found == []


def test_no_help_has_a_private_word():
    assert [f"{place}: {match[0]!r}" for place, text in helps() if (match := BANNED.search(text))] == []


@pytest.mark.parametrize("text", ["its worker died", "the next pass submits it", "the run goes on", "mend it"])
def test_a_private_word_is_found(text):
    assert BANNED.search(text)


def test_no_message_is_longer_than_two_lines():
    lengths = {
        place: len(re.sub("\0[^\0]*\0|\1", "x", text)) for place, text in messages() if not place.startswith(NOTES)
    }
    assert {place: length for place, length in lengths.items() if length > LONGEST} == {}
