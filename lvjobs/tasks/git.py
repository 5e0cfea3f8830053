"""Questions to git about a directory. Its repository may be broken, slow or hostile.

No configuration of the repository starts a program: hooks, monitors, filters and transports are off. Each question ends
in bounded time. Only variables `GIT_CONFIG_*` of the environment count: `GIT_DIR` and its kin, which git sets for its
hooks, name another repository.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from lvjobs.foreign import cleaned

_SECONDS = 30.0
"""The time limit of all questions to one `Git`."""

_KEPT = ("GIT_CONFIG_", "GIT_EXEC_PATH")
_SAFE = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.bareRepository=explicit"),  # else a directory that looks like a repository is one
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",  # a partial clone would download what it lacks
    "GIT_ALLOW_PROTOCOL": "",  # the same, for a git before 2.45: no transport is allowed
    "LC_ALL": "C",
}
_SUBMODULE = b"160000 "
"""The mode of a submodule in the index."""


class GitFailed(Exception):
    """A question that git did not answer. The text is one line: the reason."""


def repository_of(directory: Path) -> Path | None:
    """Return the root of the work tree that the directory lies in; None where it lies in none."""
    real = directory.resolve()
    return next((each for each in (real, *real.parents) if has_repository(each)), None)


def has_repository(directory: Path) -> bool:
    """Return whether the directory is the root of a work tree."""
    return os.path.lexists(directory / ".git")


class Git:
    """The git on PATH, with a time limit for all questions together."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + _SECONDS

    def list_files(self, directory: Path, excluded: Collection[str] = ()) -> list[str]:
        """Return the paths, relative to the directory, that are tracked, or neither tracked nor ignored.

        A tracked path may be missing on disk. A path may be a repository of its own, such as a submodule.

        Args:
            directory: a directory in a work tree.
            excluded: relative paths below which git does not look for untracked files.

        Raises:
            GitFailed: git gave no answer.
        """
        patterns = [f"--exclude={_pattern(directory, path)}" for path in excluded]
        paths = self._ask(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns)
        return list(dict.fromkeys(_split(paths)))  # a path with a merge conflict is listed several times

    def commit(self, directory: Path) -> str:
        """Return the hash of the commit that is checked out.

        Raises:
            GitFailed: git gave no answer, or there is no commit yet.
        """
        return self._ask(directory, "rev-parse", "--verify", "HEAD").decode().strip()

    def changed_files(self, directory: Path) -> list[str]:
        """Return the paths below the directory that differ from the commit, or are neither tracked nor ignored.

        The paths are relative to the directory. Files of submodules are among them. The repository's filters are not
        applied: a file that one of them changes may be listed although git would call it unchanged.

        Raises:
            GitFailed: git gave no answer.
        """
        prefix = _prefix(directory)
        answer = self._ask(
            directory,
            *self._no_filters(directory),
            *("status", "-z", "--porcelain", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty"),
            *("--", "."),
        )
        # each is "XY path", and the path is relative to the root of the work tree
        found = [path[3:].removeprefix(prefix) for path in _split(answer)]
        for submodule in self._submodules(directory):
            found += [f"{submodule}/{path}" for path in self.changed_files(directory / submodule)]
        return found

    def _submodules(self, directory: Path) -> Iterator[str]:
        """Yield the relative paths of the submodules that are checked out below the directory."""
        real = directory.resolve()
        for entry in self._ask(directory, "ls-files", "-z", "--stage").split(b"\0"):
            if entry.startswith(_SUBMODULE):
                path = os.fsdecode(entry.partition(b"\t")[2])
                place = (directory / path).resolve()  # a link in its place may lead into a circle
                if place != real and place.is_relative_to(real) and has_repository(place):
                    yield path

    def _no_filters(self, directory: Path) -> Sequence[str]:
        """Return the options that switch off the filters of the configuration: they are programs.

        Raises:
            GitFailed: git gave no answer, or a filter has a name that no option can hold.
        """
        answer = self._ask(directory, "config", "-z", "--get-regexp", r"^filter\.", accepted=(0, 1))  # 1: there is none
        names = {entry.partition("\n")[0].rpartition(".")[0] for entry in _split(answer)}
        if any("=" in name for name in names):
            raise GitFailed("a filter's name has an equals sign")
        settings = ("clean=", "process=", "required=false")
        return [part for name in sorted(names) for each in settings for part in ("-c", f"{name}.{each}")]

    def _ask(self, directory: Path, *arguments: str, accepted: Collection[int] = (0,)) -> bytes:
        """Run git in the directory and return its output.

        Raises:
            GitFailed: it cannot be run, took too long, or ended with a code that is not `accepted`.
        """
        program = shutil.which("git")
        if program is None:
            raise GitFailed("git is not on PATH")
        command = [str(Path(program).absolute()), *_SAFE, *arguments]
        try:
            # files, not pipes: a pipe is open until the last process that git started has ended
            with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
                code = self._wait(command, directory, output.fileno(), errors.fileno())
                output.seek(0)
                errors.seek(0)
                if code in accepted:
                    return output.read()
                words = cleaned(errors.read().decode(errors="replace")).strip().splitlines()
        except OSError as error:
            raise GitFailed(f"git cannot be run ({error.strerror})") from None
        raise GitFailed(f"git: {words[0]}" if words else f"git: exit code {code}")

    def _wait(self, command: Sequence[str], directory: Path, output: int, errors: int) -> int:
        """Run the command and return its exit code.

        Raises:
            GitFailed: it took too long. No process of it is left.
        """
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            return process.wait(max(0.0, self._ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise GitFailed(f"git did not answer within {_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of git."""
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    return kept | _ENVIRONMENT


def _prefix(directory: Path) -> str:
    """Return the directory's path below the root of its work tree: "", or it ends with a slash."""
    root = repository_of(directory)
    relative = "." if root is None else directory.resolve().relative_to(root).as_posix()
    return "" if relative == "." else f"{relative}/"


def _pattern(directory: Path, path: str) -> str:
    """Return the pattern, in the language of .gitignore, that means only this path below the directory."""
    escaped = "".join(f"\\{each}" if each in "\\*?[ " else each for each in _prefix(directory) + path)
    return f"/{escaped}"


def _split(answer: bytes) -> list[str]:
    """Return the entries of an answer, each of which ends with a zero byte."""
    return [os.fsdecode(entry) for entry in answer.split(b"\0") if entry]
