"""Remedies, typed: a test marked `remedy("RESUME", ...)` brings a trouble about, types what the message says, and sees it gone.

The fixture `take` types a remedy exactly as it stands in a message. A test that is marked and does not take all of its
remedies fails, and so does one that takes another (`remedies_are_taken`); tests/unit/remedies/test_remedies.py fails where a
remedy of lvjobs.remedies is in no mark.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from lvjobs.remedies import Remedy, registry

TESTS = Path(__file__).parent

Outcome: TypeAlias = tuple[int | str | None, str, str]


class Taker:
    """Types remedies. `taken`: the names of those that were."""

    def __init__(self, typed: Callable[..., Outcome]) -> None:
        self._typed = typed
        self.taken: set[str] = set()

    def __call__(
        self,
        remedy: Remedy,
        message: str,
        /,
        *options: str,
        choose: dict[str, str] | None = None,
        then: str = "",
        **fields: object,
    ) -> Outcome:
        """Type `remedy` with its `fields`, which has to stand in `message`; return its exit code, output and errors.

        `options` are those that the message repeats. `choose`: the reader's choice for each word in CAPITALS. A command
        of lvjobs is typed in this process, any other in a shell; `then` is typed in the same shell, and may use what the
        remedy did to it.
        """
        command = remedy(*options, **fields)
        shown = " ".join(message.split())
        assert re.search(rf"(?<![\w-]){re.escape(command)}(?![\w-])", shown), f"{command!r} is not in: {shown}"
        assert any(words in shown for words in remedy.seen), f"none of {remedy.seen} is in: {shown}"
        for word, value in (choose or {}).items():
            assert re.search(rf"\b{word}\b", command), f"{word} is not in: {command}"
            chosen = shlex.quote(value)  # in the place of the quotes that the word stands in, if it does
            command = re.sub(rf'"{word}"|\b{word}\b', lambda _, chosen=chosen: chosen, command)
        self.taken |= {name for name, each in registry().items() if each is remedy}
        words = shlex.split(command)
        if words[0] == "lvjobs":
            return self._typed(*words[1:])
        ended = subprocess.run(
            ["/bin/sh", "-ec", f"{command}\n{then}"], capture_output=True, text=True, timeout=600, check=False
        )
        return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def take(typed: Callable[..., Outcome]) -> Taker:
    """Types a remedy as a message shows it."""
    return Taker(typed)


@pytest.fixture(autouse=True)
def remedies_are_taken(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that takes other remedies than those of its mark."""
    marked = {name for mark in request.node.iter_markers("remedy") for name in mark.args}
    taker: Taker | None = request.getfixturevalue("take") if marked or "take" in request.fixturenames else None
    yield
    if taker is not None:
        assert taker.taken == marked, f"marked: {sorted(marked)}; taken: {sorted(taker.taken)}"


def scenarios() -> Iterator[tuple[str, str]]:
    """Yield each test that is marked, with each remedy of its mark, read off the source."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.remedy":
                    yield from ((node.name, ast.literal_eval(argument)) for argument in mark.args)
