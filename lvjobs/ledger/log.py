"""The ledger's log, `.lvjobs/ledger.log`: a copy of all that runs.db holds, for `lvjobs ledger rebuild`.

A line has a checksum (CRC-32, 8 hexadecimal digits), a space, and a JSON array: the number of a commit, and the changes
of that commit. A change is an SQL statement with one or more rows of parameters. The first line has the schema's
revision instead of changes. The next lines insert every row that the ledger had at that commit; then each commit
appends one line. A line is written after its commit, so the log may be behind by one commit, and its last line may be
torn. In both cases the next commit writes the log anew.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from lvjobs.files import fsync_directory, write_atomic

Change: TypeAlias = tuple[str, Sequence[Sequence[Any]]]

_BLOCK = 1 << 16


class LedgerLog:
    """The log of an open ledger with the schema `revision`.

    `last` is the number of the last commit that the log has; None if the log has to be written anew: it is missing,
    torn, of another revision, or has more than `most_bytes`.
    """

    def __init__(self, path: Path, revision: str, most_bytes: float = math.inf) -> None:
        self._path = path
        self._revision = revision
        self._descriptor: int | None = None
        self._is_new = False
        self.last: int | None = None
        with suppress(OSError):
            if path.stat().st_size <= most_bytes:
                self.last = _last_commit(path, revision)

    def append(self, commit: int, changes: Sequence[Change]) -> None:
        """Write the line of a commit. It is durable after `close`.

        Raises:
            OSError: the line cannot be written. `last` is None then, because a part of the line may be in the file.
        """
        self.last = None
        if self._descriptor is None:
            self._descriptor = self._open()
        left = memoryview(_line(commit, changes))
        while left:
            left = left[os.write(self._descriptor, left) :]
        self.last = commit

    def write_anew(self, commit: int, changes: Iterable[Change]) -> None:
        """Replace the log by one that makes an empty ledger what the ledger is at `commit`. It is durable at once.

        The first log of a ledger is durable after `close`.

        Raises:
            OSError: the log cannot be written. The old one is unchanged.
        """
        self.close()
        lines = (_line(commit, [change]) for change in changes)
        self._is_new = not self._path.exists()
        write_atomic(self._path, chain([_line(commit, self._revision)], lines), durable=not self._is_new)
        self._descriptor = self._open()
        self.last = commit

    def close(self) -> None:
        """Make appended lines durable, and close the file. Raises OSError if the disk refuses."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if self._is_new:
                fsync_directory(self._path.parent)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND)


class DamagedLogError(ValueError):
    """A log with a line that is torn, damaged or out of order."""


def read_log(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the content of each line with its commit: first the revision, then lists of changes.

    Raises:
        DamagedLogError: a line is damaged, after the lines before it were yielded. The message has its number.
        FileNotFoundError: there is no log.
    """
    last = None
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            found = _parse(line)
            if found is None or (last is not None and found[0] not in (last, last + 1)):
                raise DamagedLogError(f"line {number}")
            last = found[0]
            yield found


def _line(commit: int, content: str | Sequence[Change]) -> bytes:
    text = json.dumps([commit, content], separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> tuple[int, Any] | None:
    """Return the commit and the content of a line; None for a line that is torn or damaged."""
    checksum, _, text = line[:-1].partition(b" ")  # of a torn line, that is not the text of the checksum
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    commit, content = json.loads(text)
    return commit, content


def _last_commit(path: Path, revision: str) -> int | None:
    """Return the commit of the last line; None if that line is torn, or the log is of another revision."""
    with path.open("rb") as stream:
        first, last = _parse(stream.readline()), _parse(_last_line(stream))
    return last[0] if first is not None and first[1] == revision and last is not None else None


def _last_line(stream: BinaryIO) -> bytes:
    data, begin, size = b"", stream.seek(0, os.SEEK_END), _BLOCK
    while begin and b"\n" not in data[:-1]:
        end, begin, size = begin, max(0, begin - size), 2 * size
        stream.seek(begin)
        data = stream.read(end - begin) + data
    return data[data.rfind(b"\n", 0, -1) + 1 :]
