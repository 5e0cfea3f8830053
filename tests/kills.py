"""The table of killed programs: a test that kills one adds a row to its report, and `--kills` writes the page."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

HEAD = """\
# Kills of programs

`scripts/test --storm --kills=docs/programs-kills.md` writes this page. Each program of `tests/programs` ran unchanged,
through the command line and on the local profile, and was killed with SIGKILL: in turn its worker, and all of its own
processes. Each moment was one of three kinds: random from the start of an attempt, random after its first
checkpoint, or inside a save where one was met. After a run that completed, another one followed until all kills were done.

*inside saves*: kills while a checkpoint had begun and was not complete. *from a checkpoint*: attempts that resumed from
one; the others began at step 0, because there was none yet. *bitwise*: all tensors of each run's result (of the C program,
all bytes) are equal to those of the program that ran once, without lvjobs and without a kill. *completed*: the program
saves no random state, so its result may differ. *within*: so does this one, and its last validation losses differ by no
more than this.

| program | kills | inside saves | runs | from a checkpoint | verdict |
|---|--:|--:|--:|--:|---|
"""


@dataclass(frozen=True)
class Row:
    """A killed program. `verdict` is that of all its runs."""

    program: str
    kills: int
    inside_saves: int
    runs: int
    resumed: int
    verdict: str

    def __str__(self) -> str:
        """Return the line of the table."""
        return "| " + " | ".join(map(str, asdict(self).values())) + " |"


@pytest.fixture
def killed(request: pytest.FixtureRequest) -> Any:
    """Return the function that adds a row to the table of killed programs."""

    def add(row: Row) -> None:
        request.node.user_properties.append(("killed", json.dumps(asdict(row))))

    return add


def page(rows: Sequence[Row]) -> str:
    """Return docs/programs-kills.md."""
    return HEAD + "".join(f"{row}\n" for row in sorted(rows, key=lambda row: row.program))


class GatheredKills:
    """A plugin that takes the rows of every test that passed, and writes the page."""

    def __init__(self, path: Path):
        self.path, self.rows = path, list[Row]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of a test."""
        if report.when == "call" and report.passed:
            self.rows += [Row(**json.loads(str(value))) for name, value in report.user_properties if name == "killed"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write the page."""
        self.path.write_text(page(self.rows), encoding="utf-8")
        terminalreporter.write_line(f"{self.path}: {len(self.rows)} killed programs")
