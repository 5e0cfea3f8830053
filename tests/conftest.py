"""Fixtures that tests of every kind share."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from faults import Gathered, fault
from hypothesis import HealthCheck, settings
from kills import GatheredKills, killed
from remedies import remedies_are_taken, take

from lvjobs.cli import main
from lvjobs.remedies import registry

__all__ = ["fault", "killed", "remedies_are_taken", "take"]  # fixtures for all

os.environ["LVJOBS_SLURM_WAIT"] = "60"  # a machine that stalls is no silent Slurm
os.environ["LVJOBS_NOTE_AFTER"] = "3600"

Typed: TypeAlias = Callable[..., tuple[int | str | None, str, str]]


# The same verdict each time. To look for bugs among new examples: pytest --hypothesis-profile=default
settings.register_profile(
    "lvjobs", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lvjobs")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--faults docs/faults.md`, `--kills docs/programs-kills.md`, `--storm`."""
    parser.addoption("--faults", type=Path, help="write the table of faults there (tests/faults.py)")
    parser.addoption("--kills", type=Path, help="write the table of killed programs there (tests/kills.py)")
    parser.addoption("--storm", action="store_true", help="run the tests marked storm, too")


def pytest_configure(config: pytest.Config) -> None:
    """Give commands that tests start the signals of a terminal's foreground; gather, but not in xdist's workers."""
    # A suite that was started by nohup or with & ignores these, and each program that it starts would, too. A handler
    # is not handed down: Python's own for Ctrl-C, and one that does nothing, as a suite under nohup is to live on.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, lambda *_: None)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if hasattr(config, "workerinput"):
        return
    if path := config.getoption("--faults"):
        config.pluginmanager.register(Gathered(path))
    if path := config.getoption("--kills"):
        config.pluginmanager.register(GatheredKills(path))
    config.pluginmanager.register(Summary(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is long on purpose, sort the others, and deal them to xdist's workers.

    Tests of Slurm come first, the slow ones of them before all; then the other slow tests and those of acceptance, so
    that at the end no worker is busy for minutes while others have nothing left.
    """
    left_out = [] if config.getoption("--storm") else [item for item in items if item.get_closest_marker("storm")]
    items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: (item.get_closest_marker("slurm") is None, not _is_slow(item)))
    items[:] = deal(items, getattr(config, "workerinput", {}).get("workercount", 1))
    names = [item.nodeid for item in left_out]
    typed = [name for item in items for mark in item.iter_markers("remedy") for name in mark.args]
    counted = {"left_out": names, "typed": typed}
    if hasattr(config, "workeroutput"):
        config.workeroutput.update(counted)
    elif plugin := config.pluginmanager.get_plugin(Summary.__name__):
        plugin.counted = counted


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what is imported by now out of each look for garbage: with torch there, one took half a second."""
    gc.collect()
    gc.freeze()


def deal(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the items in an order by which half of the workers begin with tests of Slurm, and half with other slow ones.

    A worker waits in tests of Slurm while others compute. xdist gives each worker one part of the whole, in order, and
    lets a worker that has nothing left take from the end of another's part. Modules stay together where that is
    possible: their fixtures are made once.
    """
    if workers < 2:
        return items
    slurm = [item for item in items if item.get_closest_marker("slurm")]
    others = [item for item in items if not item.get_closest_marker("slurm")]
    half = (workers + 1) // 2  # the larger: tests of Slurm take most of the time, and little of the cores
    parts: list[list[pytest.Item]] = [slurm[number::half] for number in range(half)]
    parts += [[] for _ in range(workers - half)]
    slow = [list(group) for _, group in groupby((item for item in others if _is_slow(item)), lambda item: item.path)]
    for number, group in enumerate(slow):
        parts[half + number % (workers - half)] += group
    rest = iter([item for item in others if not _is_slow(item)])
    for number, part in enumerate(parts):  # sizes as xdist has them: the rest is shared out again with each part
        left = len(items) - sum(map(len, parts[:number]))
        part.extend(islice(rest, max(0, left // (workers - number) - len(part))))
    return [item for part in parts for item in part]


def _is_slow(item: pytest.Item) -> bool:
    """Return whether the test takes long: of Slurm's, where it is marked so."""
    if item.get_closest_marker("slow"):
        return True
    return item.get_closest_marker("slurm") is None and "acceptance" in item.path.parts


class Summary:
    """A plugin that names failed tests at once, and remedies that were typed and tests that were left out at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.counted: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print what failed, and how: a suite that is stopped before its end prints no summary."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal:
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext[-2000:]}")

    def pytest_testnodedown(self, node: Any) -> None:
        """Take what an xdist worker counted: each has collected the same tests."""
        output = getattr(node, "workeroutput", {})
        self.counted = {key: output[key] for key in ("left_out", "typed") if key in output} or self.counted

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print them; say how the tests that were left out are run."""
        if typed := self.counted.get("typed"):
            every = len(registry())
            terminalreporter.write_line(f"REMEDIES {len(set(typed))} of {every} typed, in {len(typed)} scenarios")
        for name in self.counted.get("left_out", ()):
            terminalreporter.write_line(f"LEFT OUT {name}: long on purpose; run it with scripts/test --storm")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command in the directory where one is; returns its exit code, output and errors."""

    def type_command(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvjobs", *map(str, arguments)])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return type_command


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory like tmp_path, whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="lv") as directory:
        yield Path(directory)
