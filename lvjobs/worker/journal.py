"""The journal's writer: whole lines, appended, each with one write(): a reader meets lines, or a torn last one."""

import os
import time
from pathlib import Path
from typing import Any

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.foreign import clean
from lvjobs.records.journal import Entry

_SYNCED = frozenset({"start", "checkpoint", "leave", "error", "done"})


class JournalWriter:
    """One attempt's journal. Not buffered: what `write` returned from is the kernel's, and survives this process."""

    def __init__(self, path: Path) -> None:
        files.make_directory(path.parent)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        files.fsync_directory(path.parent)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def write(self, kind: str, **fields: Any) -> None:
        """Append one line; lines that something rests upon (see `_SYNCED`) are on disk when this returns."""
        line = Entry(kind, round(time.time(), 3), clean(fields)).to_line().encode()
        try:
            # A torn line (a full disk, a dead writer) is ended first, else it would take this one with it.
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
