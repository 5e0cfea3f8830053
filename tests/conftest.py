"""What tests of every kind share."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from faults import Gathered, fault
from hypothesis import HealthCheck, settings

from lvjobs.cli import main

__all__ = ["fault"]  # a fixture for all

Typed: TypeAlias = Callable[..., tuple[int | str | None, str, str]]


# The same verdict each time. To look for bugs among new examples: pytest --hypothesis-profile=default
settings.register_profile(
    "lvjobs", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lvjobs")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--faults docs/faults.md`."""
    parser.addoption("--faults", type=Path, help="write the table of faults there (tests/faults.py)")


def pytest_configure(config: pytest.Config) -> None:
    """The table is gathered where pytest was started, not in its workers."""
    if (path := config.getoption("--faults")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gathered(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for Slurm come first: one of pytest's workers waits through them while the others compute."""
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


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
