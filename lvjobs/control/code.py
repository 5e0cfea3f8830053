"""The code that was submitted is the code that runs: a copy of the package, named by its content, on the job's path."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import lvjobs
from lvjobs.errors import UsageError

_SKIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def snapshot_code(store: Path, task: str) -> str:
    """Copy what a job imports into `store`/<hash>/ and return the hash.

    That is the lvjobs package and the package (or module) that `task` (`package.module:function`) lives in. A copy
    that is there already is used again: it is named by its content.
    """
    files = _imported(task)
    digest = hashlib.sha256()
    for relative, path in files:
        content = path.read_bytes()
        digest.update(f"{relative}\0{len(content)}\0".encode())
        digest.update(content)
    name = digest.hexdigest()[:16]
    target = store / name
    if not target.exists():
        _copy(files, target)
    return name


def drift(store: Path, name: str, task: str) -> list[str]:
    """The files in which the code that was copied as `name` is another than the code is now; relative paths.

    Empty, too, where the copy is no more, or the task's package cannot be found.
    """
    copy = store / name
    if not copy.is_dir():
        return []
    try:
        now = dict(_imported(task))
    except UsageError:
        return []
    then = {str(path.relative_to(copy)): path for path in copy.rglob("*") if path.is_file()}
    return sorted(
        file
        for file in now.keys() | then.keys()
        if file not in now or file not in then or now[file].read_bytes() != then[file].read_bytes()
    )


def _imported(task: str) -> list[tuple[str, Path]]:
    """What a job imports: relative path and file, in the order of the former."""
    sources = {"lvjobs": Path(lvjobs.__file__).parent}
    top = task.partition(":")[0].partition(".")[0]
    if top != "lvjobs":
        sources[top] = _find(top)
    return sorted(_files(sources), key=lambda pair: pair[0])


def _find(top: str) -> Path:
    """Where a top-level module or package lives, without importing it."""
    from importlib.util import find_spec

    spec = find_spec(top)
    if spec is None or spec.origin is None:
        raise UsageError(f"the task's package {top!r} cannot be found; run lvjobs where `import {top}` works")
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _files(sources: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    for top, source in sources.items():
        if source.is_file():
            yield source.name, source
            continue
        for directory, names, files in os.walk(source):
            names[:] = sorted(name for name in names if name not in _SKIPPED)
            for file in files:
                path = Path(directory, file)
                yield f"{top}/{path.relative_to(source)}", path


def _copy(files: list[tuple[str, Path]], target: Path) -> None:
    aside = target.with_name(f".{target.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    for relative, path in files:
        destination = aside / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
    try:
        aside.rename(target)
    except OSError:  # another command was faster, with the same content
        if not target.exists():
            raise
        shutil.rmtree(aside)
