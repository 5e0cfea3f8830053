"""The journal's writer, and the chain of checkpoints, each of which proves the journal up to it."""

import hashlib
import operator
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.foreign import clean
from lvjobs.records.journal import Entry

_SYNCED = frozenset({"start", "checkpoint", "leave", "error", "done"})


_RESERVED = frozenset({"kind", "time", "step", "steps"})


def _number(value: Any) -> float:
    """Return a metric as JSON can hold it: token counts as exact integers, all else (0-dim tensors too) as a float."""
    if hasattr(value, "detach"):
        value = value.detach()  # torch warns when a loss that still has its graph is converted to a number
    try:
        return operator.index(value)
    except TypeError:
        return float(value)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as a line can hold them. Raises ValueError for a name that the journal has for itself."""
    if reserved := _RESERVED & metrics.keys():
        raise ValueError(
            f"a metric may not be called {min(reserved)!r}: the journal has that word for itself; rename it"
        )
    return {key: _number(value) for key, value in metrics.items()}


class JournalWriter:
    """The journal of one attempt. It is not buffered: a line that `write` returned from survives this process.

    Each line is appended by one write(), so a reader sees whole lines, or a torn last one.
    """

    def __init__(self, path: Path) -> None:
        files.make_directory(path.parent)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        files.fsync_directory(path.parent)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def write(self, kind: str, **fields: Any) -> None:
        """Append one line. Lines that later decisions depend on (see `_SYNCED`) are on disk when this returns.

        Raises:
            LvjobsError: the line cannot be written, for example to a full disk.
        """
        line = Entry(kind, round(time.time(), 3), clean(fields)).to_line().encode()
        try:
            # A torn line (a full disk, a killed writer) is ended first, else this line would be joined to it.
            data = b"\n" + line if self._torn else line
            self._torn = os.write(self._descriptor, data) != len(data)
            if self._torn:
                raise OSError(28, os.strerror(28))  # noqa: TRY301 - a short write to a file means that the disk is full
            if kind in _SYNCED:
                os.fsync(self._descriptor)
        except OSError as error:
            raise LvjobsError(
                f"{self.path}: the journal cannot be written ({error.strerror}). What ran would not be accounted for, "
                f"so the attempt ends here; its checkpoints are whole. Free space or quota, then: "
                f"{remedies.RESUME_RUN(run=self.path.parent.parent.name)}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Chain:
    """The newest checkpoint's hash, and a running hash of the attempt's journal."""

    def __init__(self, journal: Path, parent: str) -> None:
        """Begin with the checkpoint that the attempt resumes from; `parent` is its hash, or empty."""
        self.parent = parent
        self._journal = journal
        self._bytes, self._digest = 0, hashlib.sha256()

    def marks(self) -> dict[str, Any]:
        """Return the next checkpoint's fields of the manifest, once the journal that they prove is durable."""
        with self._journal.open("rb") as stream:
            stream.seek(self._bytes)
            while block := stream.read(1 << 20):
                self._digest.update(block)
                self._bytes += len(block)
            os.fsync(stream.fileno())
        return {
            "parent": self.parent,
            "journal_bytes": self._bytes,
            "journal_sha256": self._digest.hexdigest(),
        }
