"""The commands that messages tell their reader to type: registered, known to `lvjobs`, and typed in a test."""

import ast
import re

import click
import pytest
from message_texts import NO_MESSAGE, PACKAGE, REMEDIES, modules, texts
from remedies import scenarios

import lvjobs.cli
from lvjobs.remedies import Remedy

OTHERS = r"pip install|apt-get install|scontrol (?:release|update|hold|requeue)|chmod|touch|sudo|module load|ssh-keygen"
COMMAND = re.compile(rf"\blvjobs (?:{'|'.join(lvjobs.cli.cli.list_commands(None))})\b|(?<![\w-])(?:{OTHERS}) ")


@pytest.fixture(scope="module")
def messages() -> list[tuple[str, str]]:
    """All texts of lvjobs that may be messages, each with its place."""
    return [
        (f"{name}:{line}", text) for name, tree in modules() if name not in NO_MESSAGE for line, text in texts(tree)
    ]


def test_a_message_holds_no_command_that_is_not_registered(messages):
    found = [f"{place}: {text}" for place, text in messages if COMMAND.search(re.sub(r"\0[^\0]*\0", "", text))]
    assert found == [], "use a remedy of lvjobs.remedies"


def test_each_remedy_is_in_a_message():
    used = {
        node.attr
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "remedies"
    }
    assert set(REMEDIES) - used == set()


def test_each_remedy_is_typed_in_a_test():
    typed = {name for _, name in scenarios()}
    assert set(REMEDIES) - typed == set(), 'bring its trouble about in a test, marked pytest.mark.remedy("NAME")'
    assert typed - set(REMEDIES) == set(), "no such remedy"


@pytest.mark.parametrize("name", REMEDIES)
def test_words_by_which_a_remedy_is_found_are_printed(name, messages):
    shown = [re.sub(r"\0", "", text) for _, text in messages]
    missing = [words for words in REMEDIES[name].seen if not any(words in text for text in shown)]
    assert missing == []


@pytest.mark.parametrize("name", [name for name, each in REMEDIES.items() if each.command.startswith("lvjobs ")])
def test_lvjobs_knows_the_command(name):
    command, words = lvjobs.cli.cli, REMEDIES[name].command.replace("--host {host} ", "").split()[1:]
    while isinstance(command, click.Group) and words:
        _, command, words = command.resolve_command(click.Context(command), words)
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_a_field_is_quoted_for_a_shell():
    remedy = Remedy("lvjobs resume {run}", "", "", ())
    assert remedy(run="it's") == """lvjobs resume 'it'"'"'s'"""
    assert remedy(run=["a b", "c"]) == "lvjobs resume 'a b' c"
    with pytest.raises(KeyError):
        str(remedy)


def test_a_command_in_a_message_is_found():
    tree = ast.parse('x = f"{a} is gone; type: lvjobs status"\ny = f"{remedies.STATUS}, {b}"\n"""lvjobs status"""')
    found = [text for _, text in texts(tree)]
    assert [bool(COMMAND.search(re.sub(r"\0[^\0]*\0", "", text))) for text in found] == [True, False]


def test_what_troubleshooting_quotes_is_printed(messages):
    text = (PACKAGE.parent / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r'^### .*"(.+)"', text, re.MULTILINE)
    assert len(quoted) > 5
    shown = "\n".join(re.sub(r"\0", "", each) for _, each in messages)
    words = [part.strip() for each in quoted for part in re.split(r"\.\.\.|\b[A-Z]{3,}\b|\d+", each)]
    assert [each for each in words if each and each not in shown] == []
