"""What tests of every kind share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory like tmp_path, whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="lv") as directory:
        yield Path(directory)
