"""docs/errors.md: every message that the source can raise, in three columns, with commands that there are."""

import ast
import re
from collections import Counter

import click
import pytest
from errors_page import FAULT, PAGE, PASSED_ON, SECTIONS, page, rows_of, section_of, split
from messages import PACKAGE, Message, scan

import lvjobs.cli
from lvjobs.errors import LvjobsError, UsageError

MADE_ELSEWHERE = {
    "_Ended": "of the local backend's own: it ends a wrapper, and says nothing",
    "classify_sbatch_error(str(error), returncode)(said)": "the scheduler's own words; the class goes by them",
    "unclear": "made right above, where it is a row",
    "sites.refuse_excess(": "the function has the row",
    "_unloadable(": "the function has the row",
    "_complain(": "the function has the row",
    "Unanswered(": "the words of a process; whoever asked it has the row",
}
"""What raise statements raise whose message does not stand in them: how it begins, and why."""


@pytest.fixture(scope="module")
def found():
    return scan()


@pytest.fixture(scope="module")
def rows(found):
    return rows_of(found)


def test_the_page_is_fresh(found):
    assert PAGE.read_text(encoding="utf-8") == page(found), (
        "docs/errors.md is stale; type: python scripts/make_errors.py"
    )


def test_every_message_says_what_to_type(rows):
    """Or it is of a kind of which that is said once, in the page's head."""
    silent = [
        f"lvjobs/{row.message.module.replace('.', '/')}.py:{row.message.line}: {row.message.text}: says nothing to type"
        for row in rows
        if not row.remedy and not row.default.remedy
    ]
    assert silent == []


def test_every_row_has_three_columns(rows):
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines]
    assert [each for each in cells if len(each) != 4 or not all(each)] == []
    heads = [each for each in cells if each[0] in ("what happened", "in a table")]
    assert len(cells) - len(heads) == len(rows) + len({row.default for row in rows})


def test_no_raise_statement_is_missed(found):
    statements = sum(
        isinstance(node, ast.Raise) and node.exc is not None
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    assert len(found.raised) == statements
    strange = [
        each for each in found.raised if not each.is_message and not each.source.startswith(tuple(MADE_ELSEWHERE))
    ]
    assert strange == [], "their messages are in no row: word them where they are raised, or say why in MADE_ELSEWHERE"
    unused = [start for start in MADE_ELSEWHERE if not any(each.source.startswith(start) for each in found.raised)]
    assert unused == []


def test_no_message_is_missed(found):
    """By what the text of the source shows, read in another way."""
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    written = Counter(re.findall(r"(?<!class )(?<!\w)(\w+)\(\s*[rf]?[\"'(]", source))
    kinds = Counter(message.kind for message in found.messages)
    assert {name: written[name] for name in found.classes if written[name] > kinds[name]} == {}
    assert sum(kinds[name] for name in found.classes) > 300


def test_messages_that_are_passed_on_are_still_there(found):
    assert set(PASSED_ON) - {(message.module, message.text) for message in found.messages} == set()


def test_every_message_has_a_section_and_every_section_messages(rows):
    assert {row.section.title for row in rows} == {section.title for section in SECTIONS}
    with pytest.raises(LookupError, match="add its module to one"):
        section_of(Message("newroom.thing", "f", 1, "UsageError", ""))


def test_the_exit_codes_are_those_of_the_classes(found, rows):
    assert (LvjobsError.exit_code, UsageError.exit_code) == (1, 2)
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert re.findall(r"^    exit_code = (\d+)", source, re.MULTILINE) == ["1", "2"]  # no other class says one
    at_prompt = [row for row in rows if row.default.exit in ("1", "2") and row.default is not FAULT]
    assert at_prompt
    for row in at_prompt:
        is_usage = "UsageError" in found.lineage(row.message.kind) or row.message.kind in ("ValueError", "TypeError")
        assert row.default.exit == ("2" if is_usage else "1"), row.message


def commands_in(text):
    """What a text tells one to type of lvjobs: the words after it, as far as they are a command's."""
    for told in re.findall(r"\blvjobs ((?:[^\s,;()]+(?: |$|(?=[,;()])))+)", text):
        yield told.split()


def resolve(words):
    """The command that words name, the rest of them, and how far the names went."""
    command, context = lvjobs.cli.cli, click.Context(lvjobs.cli.cli)
    names = 0
    while isinstance(command, click.Group) and names < len(words):
        inner = command.get_command(context, words[names])
        if inner is None:
            break
        command, context, names = inner, click.Context(inner, parent=context), names + 1
    return command, words[names:], names


def options_of(command):
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def every_command(command, context):
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            yield from every_command(inner, click.Context(inner, parent=context))


def unknown_commands(text):
    """What is told in the text that `lvjobs` does not know."""
    for words in commands_in(text):
        command, rest, names = resolve(words)
        if not names:
            yield f"lvjobs {words[0]}"
        yield from (
            f"{' '.join(words)}: {each}" for each in rest if each.startswith("--") and each not in options_of(command)
        )


WHERE_LVJOBS_IS_A_WORD = ("run lvjobs where ", "run lvjobs on a login node")


def test_every_command_and_option_that_is_told_is_there(rows):
    texts = [row.remedy or row.default.remedy for row in rows]
    told = [words for text in texts for words in commands_in(text)]
    assert len(told) > 30
    wrong = [
        each for text in texts if not any(w in text for w in WHERE_LVJOBS_IS_A_WORD) for each in unknown_commands(text)
    ]
    assert wrong == []
    known = {flag for each in every_command(lvjobs.cli.cli, click.Context(lvjobs.cli.cli)) for flag in options_of(each)}
    bare = {flag for text in texts for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert bare - known - {"--KEY", "--json", "--constraint"} == set(), "--constraint is one of sbatch"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("type: lvjobs sweep all, or lvjobs ledger rebuild --aside", []),
        ("see lvjobs leger check", ["lvjobs leger"]),
        ("lvjobs ledger rebuild --anew", ["ledger rebuild --anew: --anew"]),
    ],
)
def test_what_is_no_command_is_found(text, wrong):
    assert list(unknown_commands(text)) == wrong


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a; b: type: lvjobs status", ("a", "b", "type: lvjobs status")),
        ("F exists; name another", ("F exists", "", "name another")),
        ("NAME; NAME another", ("NAME", "NAME another", "")),
        ("A is here (b; choose c): d, so ask for less", ("A is here (b; choose c): d", "", "ask for less")),
        (
            "gone; on a login node, type: lvjobs model pull M",
            ("gone", "", "on a login node, type: lvjobs model pull M"),
        ),
        ("it failed: no reason. All is well. Free space, then: lvjobs resume", None),
    ],
)
def test_a_message_is_taken_apart(text, parts):
    assert split(text) == (parts or ("it failed: no reason", "All is well", "Free space, then: lvjobs resume"))


def test_messages_are_found_wherever_they_are_made(tmp_path):
    (tmp_path / "room.py").write_text(
        """
class LvjobsError(Exception): ...
class Bad(LvjobsError):
    def __init__(self, what): super().__init__(f"{what.name} is bad; mend it")
LIMIT, WORD = 7, "few"
def made(path): return Bad(f"{path} is " + ("old" if path else "new"))
def chosen(text, runs):
    hint = f"; did you mean {text!r}?" if text else "; leave it out"
    kind = Bad if text else LvjobsError
    try:
        raise kind(f"{len(runs)} are more than {LIMIT}, {WORD}{hint}")
    except ValueError as error:
        raise ValueError(f"{runs[0].root}: {error}") from made(text)
    raise made(text)
"""
    )
    found = scan(tmp_path)
    assert [(each.function, each.kind, each.text) for each in found.messages] == [
        ("Bad.__init__", "Bad", "WHAT is bad; mend it"),
        ("made", "Bad", "PATH is old / new"),
        ("chosen", "Bad", "N are more than 7, few; did you mean TEXT? / leave it out"),
        ("chosen", "ValueError", "RUNS: REASON"),
    ]
    assert [each.is_message for each in found.raised] == [True, True, False]
