"""The journal's writer. Each line is appended by one write(), so a reader sees whole lines, or a torn last one."""

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
    """The journal of one attempt. It is not buffered: a line that `write` returned from survives this process."""

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
