"""A checkpoint's manifest and hash, read from its beginning alone: nothing is verified, and no tensor is loaded."""

import hashlib
import json
from pathlib import Path

from lvjobs.records.run_files import CHECKPOINT_SUFFIX, MANIFEST, Manifest

_LENGTH = 8
"""The bytes of a file's header that have the length of the rest of it (see `lvjobs.worker.tensor_file`)."""
_LONGEST = 1 << 28


def read_head(path: Path) -> tuple[Manifest, str]:
    """Return a checkpoint's manifest, and the hash that the next checkpoint's manifest names as its parent.

    Args:
        path: The checkpoint: a file, or a directory.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no checkpoint.
    """
    if path.suffix != CHECKPOINT_SUFFIX:
        text = (path / MANIFEST).read_bytes()
        return Manifest.from_json(text.decode("utf-8")), hashlib.sha256(text).hexdigest()
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if length > _LONGEST:
            raise ValueError(f"{path} has no header")
        header = json.loads(stream.read(length))
    try:
        texts = header["__metadata__"]
        return Manifest.from_json(texts["manifest"]), str(texts["sha256"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} has no manifest: {error}") from None
