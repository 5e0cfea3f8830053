"""A container's image at submission: whether its engine can run it, and its identity for the record of a run.

A file has the SHA-256 of its content, which is kept in `.lvjobs/images.json` by path, size and times: an image of 10 GB
is read once. A directory is not read: its identity is the SHA-256 of the sorted list of its paths, each with its type,
size, time of change and link. A reference is as exact as it was written: only `@sha256:` names one image.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.files import write_json
from lvjobs.study.layout import StudyLayout
from lvjobs.study.program.container import DIRECTORIES, KINDS, ContainerConfig, misread
from lvjobs.tasks.copy_limits import shown

_SQUASHFS, _SIF, _EXT = (0, b"hsqs"), (32, b"SIF_MAGIC"), (1080, b"\x53\xef")
"""Offsets in a file, and the bytes there that show its format."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ImageNeed:
    """The need for the image of a container, and for paths that its engine reads as they are.

    `root` is the study's directory, `variables` are those of [train.environment].
    """

    container: ContainerConfig
    root: Path
    paths: tuple[Path, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        """Return a hash: equal needs are checked once."""
        return hash((self.container.image, self.root))

    def check(self) -> None:
        """Raise UsageError where the engine would not run the image."""
        problem = next(misread(self.container, self.root, self.paths, dict(self.variables)), "")
        problem = problem or image_problem(self.container, self.root)
        if problem:
            raise UsageError(f"container: {problem}; nothing was submitted")


def image_problem(container: ContainerConfig, root: Path) -> str:
    """Return why the container's engine cannot run its image, with a remedy; empty if nothing is known against it."""
    path = container.path(root)
    if path is None:
        return ""
    name, there = f"name {KINDS[container.engine]}", shown(str(path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "" if container.engine in DIRECTORIES else f"{there} is a directory; {name}"
        if not stat.S_ISREG(mode):
            return f"{there} is neither a file nor a directory; {name}"
        formats = (_SQUASHFS, _SIF, _EXT) if container.engine == "apptainer" else (_SQUASHFS,)
        with path.open("rb") as stream:
            head = stream.read(2048)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return f"{there} does not exist; correct `image` under [train]"
        return f"{there}: {str(error.strerror).lower()}; correct `image` under [train], or the permissions"
    is_image = any(head[offset:].startswith(mark) for offset, mark in formats)
    return "" if is_image else f"{there} is no image that {container.engine} runs; {name}"


def image_identity(container: ContainerConfig, root: Path) -> dict[str, Any]:
    """Return what a run's record has about its image.

    Args:
        container: The container.
        root: The study's directory, in whose `.lvjobs` the hashes of files are kept.

    Returns:
        `engine`, `image`, `kind` (`file`, `directory` or `reference`), and `sha256` where it is known.

    Raises:
        OSError: the image cannot be read.
    """
    path = container.path(root)
    if path is None:
        _, _, digest = container.image.partition("@sha256:")
        known = {"sha256": digest} if digest else {}
        return {"engine": container.engine, "image": container.image, "kind": "reference", **known}
    kind = "directory" if path.is_dir() else "file"
    digest = _of_listing(path) if kind == "directory" else _of_file(path, StudyLayout(root).internal / "images.json")
    return {"engine": container.engine, "image": str(path), "kind": kind, "sha256": digest}


def _of_file(path: Path, kept: Path) -> str:
    """Return the SHA-256 of a file, from `kept` where the file has not changed since it was computed."""
    found = path.stat()
    now = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # there is none yet, or it was damaged: it is only a cache
        read = json.loads(kept.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("status") == now and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {**known, str(path): {"status": now, "sha256": digest.hexdigest()}})
    return digest.hexdigest()


def _of_listing(directory: Path) -> str:
    """Return the SHA-256 of the sorted list of all paths below a directory. No file is read."""
    digest = hashlib.sha256()
    for line in sorted(_lines(directory)):
        digest.update(os.fsencode(line) + b"\0")
    return digest.hexdigest()


def _lines(directory: Path) -> Iterator[str]:
    for place, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(place, name)
            found = path.lstat()
            relative = path.relative_to(directory).as_posix()
            if stat.S_ISLNK(found.st_mode):
                yield f"{relative}\nlink\n{path.readlink()}"
            elif stat.S_ISREG(found.st_mode):
                yield f"{relative}\nfile\n{found.st_mode:o}\n{found.st_size}\n{found.st_mtime_ns}"
            else:  # mount points change the time of a directory
                yield f"{relative}\nother\n{found.st_mode:o}"
