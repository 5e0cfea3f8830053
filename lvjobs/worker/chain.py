"""The chain of a run's checkpoints: each names its parent, and proves the journal up to it."""

import hashlib
import os
from pathlib import Path
from typing import Any


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
