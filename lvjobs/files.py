"""Durable files: written aside, fsynced, renamed; claims that exactly one process wins; and who may read them.

Everything that outlives a process goes through here, so that a crash at any instant leaves either the old file or the
new one. Only POSIX rename, link and O_EXCL are relied upon: they hold on NFS and Lustre, where advisory locks may not.
"""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError

_ONLY_MINE = 0o077
"""The umask of all that is written into a study: directories 0700, files 0600, whatever the shell's umask is."""


_FEW, _AT_ONCE = 32, 16
"""Files that are written one after another, and how many are at once where there are more."""


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
    _fsync(directory)


def make_directory(directory: Path) -> None:
    """Make `directory` in one that is there, unless it is there itself; its name is durable when this returns."""
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

    Nobody can guess it: where others may write into the directory, nothing can lie there in wait.
    """
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")


def create_new(path: Path) -> int:
    """Create `path`, for its owner only, and return its descriptor. What is there already, also a link, is an error."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _write(path: Path, data: bytes | str) -> None:
    with os.fdopen(create_new(path), "wb") as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replace `path` by `data`; a reader sees the old content or the new, never a part. `durable`: see `write_many`."""
    write_many({path: data}, durable=durable)


def write_many(contents: Mapping[Path, bytes | str], *, durable: bool = True) -> None:
    """Replace each file by what is given for it; a reader sees its old content or its new one, never a part.

    All are on disk before the first is published, and the disk is waited for about once: it would be for each, were
    they written one by one. A death in between leaves some of them new and the others old. Not `durable`: a machine
    that loses its power may lose the new and the old.
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
                aside.unlink()  # of a full disk not even this part
        raise
    if durable:
        _for_each(fsync_directory, directories)


def make_private(directories: Collection[Path]) -> None:
    """Make each directory, and what is missing above it; those that are there stay as they are."""
    _for_each(lambda directory: directory.mkdir(parents=True, exist_ok=True, mode=0o700), directories)


def _for_each(work: Callable[[Path], object], paths: Collection[Path]) -> None:
    """Many at once where they are many: a disk, or a file system's server, is waited for by all of them together."""
    if len(paths) <= _FEW:
        for path in paths:
            work(path)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for future in [pool.submit(work, path) for path in paths]:
            future.result()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_atomic` of a JSON object."""
    write_atomic(path, json_text(value))


def expand_home(path: Path | str) -> Path:
    """Return `path` with a ~ at its beginning replaced by the home directory.

    Raises:
        UsageError: nothing names it: HOME is not set, and the password database does not know the user id.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no home directory to put in place of the ~; write the whole path") from None


def path_text(path: Path | str) -> str:
    """Return `path` as a UTF-8 file has to hold it: its own bytes, whatever encoding this process's locale has."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def json_text(value: Mapping[str, Any]) -> str:
    """A JSON object as files have it: equal objects give equal text."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def create_exclusive(path: Path, data: bytes | str) -> bool:
    """Publish `path` with its whole content if it does not exist yet; say whether this call was the one that did.

    Written aside and linked, not opened with O_EXCL and then filled: a reader never meets an empty claim.
    """
    aside = aside_of(path)
    try:
        _write(aside, data)
        _fsync(aside)
        if not link_new(aside, path):
            return False
    finally:
        aside.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return True


def link_new(aside: Path, path: Path) -> bool:
    """Give a file that has one name a second, `path`, unless something has that; return whether this call did.

    An NFS client that hears no answer asks again, and is told that `path` exists, also where its first request made it.
    So the file's own count of names decides (link(2), open(2)): nobody else can give it one.
    """
    try:
        os.link(aside, path)
    except FileExistsError:
        with aside.open("rb") as stream:  # opened: an NFS client then asks for the count and does not trust its cache
            return os.fstat(stream.fileno()).st_nlink > 1
    return True
