"""The files that `lvjobs pull` copies from a study: its report, figures, and the adapters of finished runs."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lvjobs.errors import LvjobsError
from lvjobs.files import aside_of, create_new
from lvjobs.study.layout import StudyLayout

_DIRECTORIES = ("report", "figures", "forecasts")


@dataclass(frozen=True)
class RemoteFile:
    """A file to copy: its `path` in the study, where it is copied `to`, its size in bytes, and its time in ns."""

    path: str
    to: str
    size: int
    mtime_ns: int

    def is_at(self, directory: Path) -> bool:
        """Return whether the directory has the file already, of the same size and time."""
        try:
            found = (directory / self.to).stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


def files_to_pull(layout: StudyLayout) -> Iterator[RemoteFile]:
    """Yield the files of the report, of figures and forecasts, and of the adapters of finished runs."""
    for name in _DIRECTORIES:
        yield from _below(layout.root / name, layout.root, name)
    for done in sorted(layout.checkpoints.glob("*/done.json")):
        adapter = layout.run(done.parent.name).final / "adapter"
        yield from _below(adapter, layout.root, f"adapters/{done.parent.name}")


def _below(directory: Path, root: Path, to: str) -> Iterator[RemoteFile]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found = path.stat()
            target = PurePosixPath(to) / path.relative_to(directory).as_posix()
            yield RemoteFile(path.relative_to(root).as_posix(), str(target), found.st_size, found.st_mtime_ns)


def as_lines(files: Iterable[RemoteFile]) -> str:
    """Return the files as JSON lines."""
    return "".join(json.dumps(asdict(each)) + "\n" for each in files)


def from_lines(text: str) -> list[RemoteFile]:
    """Return the files that `as_lines` wrote.

    Raises:
        LvjobsError: The text is another, or a path leaves the directory.
    """
    try:
        files = [RemoteFile(**json.loads(line)) for line in text.splitlines()]
        outside = [each.to for each in files if ".." in PurePosixPath(each.to).parts or each.to.startswith("/")]
    except (ValueError, TypeError) as error:
        raise LvjobsError("the login node sent no list of files: it needs the same release of lvjobs") from error
    if outside:
        raise LvjobsError(f"the login node sent a path that leaves the directory, {outside[0]}; nothing was copied")
    return files


def send(layout: StudyLayout, names: Iterable[str], stream: IO[bytes]) -> None:
    """Write the files of these paths to a stream, as a tar archive. Other files than those to pull are left out."""
    known = {each.path for each in files_to_pull(layout)}
    with tarfile.open(fileobj=stream, mode="w|", encoding="utf-8") as archive:
        for name in names:
            if name in known:
                archive.add(layout.root / name, arcname=name, recursive=False)


def receive(stream: IO[bytes], wanted: Mapping[str, RemoteFile], directory: Path) -> int:
    """Write the files of a tar archive that are wanted, by their paths, below a directory; return their number.

    Each file appears whole, with its time. Raises LvjobsError if the archive ends too early.
    """
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8") as archive:
            for member in archive:
                data, file = archive.extractfile(member), wanted.get(member.name)
                if file is None or data is None:
                    continue
                _write(directory / file.to, data, file.mtime_ns)
                count += 1
    except (tarfile.TarError, EOFError) as error:
        raise LvjobsError(f"the copy ended early ({error}); run the command again: it continues") from error
    return count


def _write(path: Path, data: IO[bytes], mtime_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        with os.fdopen(create_new(aside), "wb") as target:
            shutil.copyfileobj(data, target, 1 << 20)
        os.utime(aside, ns=(mtime_ns, mtime_ns))
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
