"""`lvjobs --host LOGIN ...`: the same command over OpenSSH on a login node, with its terminal and its exit code."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.remedies.remedy import TYPED_HOST
from lvjobs.study.config import load_study
from lvjobs.study.found import TYPED_STUDY, study_above
from lvjobs.study.layout import StudyLayout

IS_REMOTE = "LVJOBS_REMOTE"
"""The variable that is set where a command arrives, so that it is not sent on."""
_SSH, _COMMAND = "LVJOBS_SSH", "LVJOBS_REMOTE_EXECUTABLE"
_HERE = frozenset({"init", "completion", "lab", "pull"})
"""Commands that are about this machine."""
_HELP = frozenset({"-h", "--help", "--version"})
_FAILED, _NOT_FOUND = 255, 127
"""The exit codes of ssh if it could not run the command, and of a shell that does not find it."""


class RemoteFailed(LvjobsError):
    """A login node that could not be reached, or on which lvjobs was not found."""


@dataclass(frozen=True)
class Login:
    """A login node: its `host` as ssh knows it, the `study` there, and lvjobs there. `typed`: it was given by --host.

    `study` is empty if it was not named: then it is found from the directory in which a shell begins there.
    """

    host: str
    study: str = ""
    command: str = "lvjobs"
    typed: bool = True

    def arguments(self, words: Sequence[str], *, terminal: bool = False) -> list[str]:
        """Return the ssh command that runs lvjobs with these words in the study there."""
        variables = {IS_REMOTE: "1"}
        if self.typed:
            variables |= {TYPED_HOST: self.host} | ({TYPED_STUDY: self.study} if self.study else {})
        if "NO_COLOR" in os.environ:
            variables["NO_COLOR"] = os.environ["NO_COLOR"]
        sets = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        enter = f"cd {_path(self.study)} && " if self.study else ""
        script = f"{enter}{sets} exec {_path(self.command)} {shlex.join(words)}"
        ssh = shlex.split(os.environ.get(_SSH) or "ssh")
        # A login shell, so that PATH has what the user's profile adds.
        return [*ssh, "-t" if terminal else "-T", "--", self.host, f"exec bash -lc {shlex.quote(script)}"]

    def explain(self, code: int) -> None:
        """Raise RemoteFailed for an exit code that is not lvjobs's own."""
        if code == _FAILED:
            raise RemoteFailed(
                f"ssh could not run the command on {self.host}; check the connection, then run the command again: "
                f"{remedies.SSH_CHECK(host=self.host)}"
            )
        if code == _NOT_FOUND:
            raise RemoteFailed(
                f"{self.host} has no command {self.command}; install lvjobs there, or set [remote] executable in "
                f"study.toml (or ${_COMMAND}) to its path"
            )


def _path(text: str) -> str:
    """Return a path for a shell, with a leading ~ that the shell expands."""
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def split_host(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the host of a leading --host (empty: none), and the words after it.

    Raises:
        UsageError: --host has no value.
    """
    if not words or not words[0].startswith("--host"):
        return "", list(words)
    if words[0].startswith("--host="):
        host, rest = words[0].partition("=")[2], words[1:]
    elif words[0] == "--host":
        host, rest = (words[1], words[2:]) if len(words) > 1 else ("", [])
    else:
        return "", list(words)
    if not host or host.startswith("-"):
        raise UsageError("--host needs the name of a login node, as ssh knows it: lvjobs --host me@login status")
    return host, list(rest)


def declared_login() -> Login | None:
    """Return the login node that the study here declares in [remote]; None without one, and where its ledger is.

    Raises:
        UsageError: study.toml cannot be used.
    """
    root = study_above(Path.cwd())
    if root is None or StudyLayout(root).database.exists():
        return None
    remote = load_study(root).config.remote
    return Login(remote.host, remote.study or "", remote.executable, typed=False) if remote.host else None


def command_there() -> str:
    """Return lvjobs as it is called on a login node that --host names."""
    return os.environ.get(_COMMAND) or "lvjobs"


def login_for(words: Sequence[str]) -> tuple[Login | None, list[str]]:
    """Return the login node on which a command is to run (None: here), and the command's own words.

    Raises:
        UsageError: --host has no value, or study.toml cannot be used.
    """
    host, rest = split_host(words)
    if os.environ.get(IS_REMOTE) or not rest or rest[0].startswith("-") or _HELP.intersection(rest):
        return None, rest
    if host:
        study, rest = _split_study(rest)
        return Login(host, study, command_there()), rest
    try:
        declared = None if rest[0] in _HERE or _split_study(rest)[0] else declared_login()
    except OSError:  # the current directory may be gone
        declared = None
    return declared, rest


def _split_study(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of --study (empty: none), and the other words. What follows `--` is a program's own."""
    kept, study, left = [], os.environ.get("LVJOBS_STUDY", ""), list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            kept += [word, *left]
            break
        if word == "--study" and left:
            study = left.pop(0)
        elif word.startswith("--study="):
            study = word.partition("=")[2]
        else:
            kept.append(word)
    return study, kept


def run_remote(login: Login, words: Sequence[str]) -> int:
    """Run a command on a login node, with this terminal, and return its exit code.

    Raises:
        RemoteFailed: The node cannot be reached, lvjobs is not there, or there is no ssh here.
    """
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    try:
        code = subprocess.run(login.arguments(words, terminal=terminal), check=False).returncode
    except OSError as error:
        raise RemoteFailed(f"ssh cannot be run ({error.strerror}): install OpenSSH's client") from error
    login.explain(code)
    return code
