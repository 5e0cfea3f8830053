"""Durable files: written aside, fsynced, renamed; claims that exactly one process wins; and file permissions.

Every file that outlives a process is written here, so that a crash at any instant leaves either the old file or the new
one. This relies only on POSIX rename, link and O_EXCL: they hold on NFS and Lustre, where advisory locks may not.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from lvjobs.errors import UsageError

_ONLY_MINE = 0o077
"""The umask for all that is written into a study: directories 0700, files 0600, whatever the shell's umask is."""


Content: TypeAlias = bytes | str | Iterable[bytes]
"""The content of a file: whole, or in parts."""

_FEW, _AT_ONCE = 32, 16
"""The most files that are written one after another, and how many are written at once where there are more."""


def keep_private() -> int:
    """Make all later files of this process and its children private to its user; return the former umask."""
    return os.umask(_ONLY_MINE)


@contextmanager
def private() -> Iterator[None]:
    """Apply `keep_private` while the context is open."""
    before = keep_private()
    try:
        yield
    finally:
        os.umask(before)


def close_to_others(directory: Path) -> None:
    """Remove group and other permissions from a directory of this user's; leave any other as it is."""
    try:
        status = directory.stat()
    except FileNotFoundError:
        return
    if status.st_uid == os.getuid() and status.st_mode & _ONLY_MINE:
        directory.chmod(status.st_mode & 0o7700)


def is_foreign(path: Path) -> bool:
    """Return whether another user owns `path`. A missing path is not foreign."""
    try:
        return path.stat().st_uid != os.getuid()
    except FileNotFoundError:
        return False


def fsync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a rename is only safe once its directory is on disk."""
    _fsync(directory)


def make_directory(directory: Path) -> None:
    """Create `directory` in an existing one unless it exists; its name is durable when this returns."""
    try:
        directory.mkdir()
    except FileExistsError:
        return
    _fsync(directory.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def aside_of(path: Path) -> Path:
    """Return a name beside `path` under which it is written before it is published.

    The name cannot be guessed: where others may write into the directory, they cannot place a file there first.
    """
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")


def create_new(path: Path) -> int:
    """Create `path`, for its owner only, and return its descriptor. Raises OSError where it exists, also as a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _write(path: Path, data: Content) -> None:
    with os.fdopen(create_new(path), "wb") as stream:
        if isinstance(data, str | bytes):
            data = [data.encode() if isinstance(data, str) else data]
        stream.writelines(data)


def write_atomic(path: Path, data: Content, *, durable: bool = True) -> None:
    """Replace `path` by `data`; a reader sees the old content or the new, never a part. `durable`: see `write_many`."""
    write_many({path: data}, durable=durable)


def write_many(contents: Mapping[Path, Content], *, durable: bool = True) -> None:
    """Replace each file by its given content; a reader sees the old content or the new, never a part.

    All files are on disk before the first is published, so the wait for the disk happens about once, not once for each
    file. A failure in between leaves some files new and the others old. Without `durable`, a machine that loses its
    power may lose both the new and the old content.

    Raises:
        OSError: a file cannot be written or renamed.
    """
    directories = list(dict.fromkeys(path.parent for path in contents))
    asides = {path: aside_of(path) for path in contents}
    try:
        _for_each(lambda path: _write(asides[path], contents[path]), list(contents))
        if durable:
            _for_each(_fsync, list(asides.values()))
        _for_each(lambda path: asides[path].rename(path), list(contents))
    except OSError:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()  # frees the part that was written to a full disk
        raise
    if durable:
        _for_each(fsync_directory, directories)


def append_line(path: Path, line: bytes) -> None:
    """Append a line to an existing file; it is on disk when this returns. The caller is the file's only writer.

    A last line that a killed writer or a full disk cut short is ended first, else this line would be joined to it.

    Raises:
        OSError: the line cannot be written. A part of it may be there, as a last line without its newline.
    """
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        is_torn = stream.read(1) not in (b"", b"\n")
        stream.seek(size)
        stream.write(b"\n" + line if is_torn else line)
        stream.flush()
        os.fsync(stream.fileno())


def names_in(directory: Path) -> frozenset[str]:
    """Return the names in a directory; none if it is missing.

    Listing shows what is there now: an NFS client reads a changed directory again, but may remember for a minute that
    a name was missing.
    """
    try:
        return frozenset(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return frozenset()


def _for_each(work: Callable[[Path], object], paths: Collection[Path]) -> None:
    """Run `work` for each path, many at once where they are many: they then wait for the disk together."""
    if len(paths) <= _FEW:
        for path in paths:
            work(path)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(work, paths))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with `write_atomic`."""
    write_atomic(path, json_text(value))


def expand_home(path: Path | str) -> Path:
    """Return `path` with a ~ at its beginning replaced by the home directory.

    Raises:
        UsageError: the home directory is unknown: HOME is not set, and the password database does not know the user id.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: ~ cannot be expanded, because there is no home directory; write the absolute path"
        ) from None


def path_text(path: Path | str) -> str:
    """Return `path` as a UTF-8 file has to hold it: its own bytes, whatever encoding this process's locale has."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def json_text(value: Mapping[str, Any]) -> str:
    """Return a JSON object as text for a file: equal objects give equal text."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def create_exclusive(path: Path, data: bytes | str, *, durable: bool = True) -> bool:
    """Publish `path` with its whole content if it does not exist yet; return whether this call did.

    `durable`: see `write_many`.

    The file is written aside and linked, not opened with O_EXCL and then filled: a reader never sees an empty claim.
    """
    aside = aside_of(path)
    try:
        _write(aside, data)
        if durable:
            _fsync(aside)
        if not link_new(aside, path):
            return False
    finally:
        aside.unlink(missing_ok=True)
    if durable:
        fsync_directory(path.parent)
    return True


def link_new(aside: Path, path: Path) -> bool:
    """Give a file that has one name a second one, `path`, if `path` does not exist; return whether this call did.

    An NFS client that gets no answer asks again, and is told that `path` exists even if its own first request created
    it. So the file's number of names decides (link(2), open(2)): no other process can add one.
    """
    try:
        os.link(aside, path)
    except FileExistsError:
        with aside.open("rb") as stream:  # opened: an NFS client then asks for the count and does not trust its cache
            return os.fstat(stream.fileno()).st_nlink > 1
    return True
