"""Durable files: written aside, fsynced, renamed; claims that exactly one process wins; and who may read them.

Everything that outlives a process goes through here, so that a crash at any instant leaves either the old file or the
new one. Only POSIX rename, link and O_EXCL are relied upon: they hold on NFS and Lustre, where advisory locks may not.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ONLY_MINE = 0o077
"""The umask of all that is written into a study: directories 0700, files 0600, whatever the shell's umask is."""


def keep_private() -> int:
    """From now on, what this process and its children make is for its user alone; returns the umask until now."""
    return os.umask(_ONLY_MINE)


@contextmanager
def private() -> Iterator[None]:
    """`keep_private` for a while."""
    before = keep_private()
    try:
        yield
    finally:
        os.umask(before)


def close_to_others(directory: Path) -> None:
    """Take a directory of this user's that others may look into out of their sight; any other is left as it is."""
    try:
        status = directory.stat()
    except FileNotFoundError:
        return
    if status.st_uid == os.getuid() and status.st_mode & _ONLY_MINE:
        directory.chmod(status.st_mode & 0o7700)


def is_foreign(path: Path) -> bool:
    """Whether somebody else owns `path`. What is not there belongs to nobody."""
    try:
        return path.stat().st_uid != os.getuid()
    except FileNotFoundError:
        return False


def fsync_directory(directory: Path) -> None:
    """Make the names in `directory` durable (a rename is only safe once its directory is on disk)."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, flags: int, *, durable: bool = True) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replace `path` by `data`; a reader sees the old content or the new, never a part.

    Not `durable`: a machine that loses its power may lose it, and what was there before.
    """
    aside = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        _write(aside, data.encode() if isinstance(data, str) else data, os.O_TRUNC, durable=durable)
        aside.rename(path)
    except OSError:
        with suppress(OSError):
            aside.unlink()  # of a full disk not even this part
        raise
    if durable:
        fsync_directory(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_atomic` of a JSON object."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def create_exclusive(path: Path, data: bytes | str) -> bool:
    """Publish `path` with its whole content if it does not exist yet; say whether this call was the one that did.

    Written aside and linked, not opened with O_EXCL and then filled: a reader never meets an empty claim.
    """
    aside = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.claim")
    try:
        _write(aside, data.encode() if isinstance(data, str) else data, os.O_TRUNC)
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return True
