"""`lvjobs pull`: the results of a study on a login node, copied to this machine."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import click

from lvjobs import remedies
from lvjobs.api.pull import RemoteFile, as_lines, files_to_pull, from_lines, receive, send
from lvjobs.cli.help import Command
from lvjobs.cli.remote import Login, RemoteFailed, command_there, declared_login
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study

_MEGABYTE = 1e6


@click.command(cls=Command)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--study", "root", metavar="DIRECTORY", help="The study's directory on the login node.")
@click.option("--list", "listed", is_flag=True, hidden=True, help="On the login node: list the files.")
@click.option("--send", "sends", is_flag=True, hidden=True, help="On the login node: send the files of stdin.")
def pull(directory: Path | None, root: str | None, listed: bool, sends: bool) -> None:
    """Copy report, tables, figures and adapters of finished runs into DIRECTORY (default: that of this study).

    They come from the login node of [remote] in study.toml, or of `lvjobs --host LOGIN pull`. Files that are here
    already are not copied again. To update the report there first: lvjobs --host LOGIN report.
    """
    if listed or sends:
        layout = load_study(Path(root or ".")).layout
        if listed:
            click.echo(as_lines(files_to_pull(layout)), nl=False)
        else:
            send(layout, sys.stdin.read().splitlines(), sys.stdout.buffer)
        return
    login = _login((click.get_current_context().obj or {}).get("host"), root)
    target = directory or (Path() if not login.typed else Path(PurePosixPath(login.study).name or "pulled"))
    _copy(login, target)


def _login(host: str | None, root: str | None) -> Login:
    """Return the login node, from --host or [remote]. Raises UsageError without one."""
    login = Login(host, command=command_there()) if host else declared_login()
    if login is None:
        raise UsageError(
            "no login node is known: name it (lvjobs --host me@login pull --study DIR), or set host under [remote] in "
            "study.toml"
        )
    return Login(login.host, root or login.study, login.command, login.typed)


def _copy(login: Login, target: Path) -> None:
    """Copy the files that are not at the target yet, and print what was copied."""
    files = from_lines(_ask(login, ["pull", "--list"]))
    wanted = {each.path: each for each in files if not each.is_at(target)}
    if not files:
        where = ("--study", login.study) if login.study else ()
        report = remedies.REMOTE_REPORT(*where, host=login.host) if login.typed else remedies.REPORT()
        click.echo(f"There is nothing to copy yet: no report, no figures, no finished run. To write a report: {report}")
        return
    copied = _fetch(login, wanted, target) if wanted else 0
    runs = len({each.to.split("/")[1] for each in files if each.to.startswith("adapters/")})
    size = sum(each.size for each in wanted.values()) / _MEGABYTE
    click.echo(
        f"{target}: {copied} files copied ({size:.1f} MB), {len(files) - len(wanted)} unchanged; adapters of {runs} "
        f"run{'s' if runs != 1 else ''}"
    )


def _ask(login: Login, words: Sequence[str]) -> str:
    """Return the output of a command on the login node. Raises RemoteFailed if it fails."""
    try:
        done = subprocess.run(login.arguments(words), stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    except OSError as error:
        raise RemoteFailed(f"ssh cannot be run ({error.strerror}): install OpenSSH's client") from error
    login.explain(done.returncode)
    if done.returncode:
        raise RemoteFailed(f"lvjobs failed on {login.host} (exit code {done.returncode}); nothing was copied")
    return done.stdout


def _fetch(login: Login, wanted: dict[str, RemoteFile], target: Path) -> int:
    """Copy the wanted files, and return their number. Raises RemoteFailed if some did not come."""
    with subprocess.Popen(
        login.arguments(["pull", "--send"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{name}\n" for name in wanted).encode())
        process.stdin.close()
        copied = receive(process.stdout, wanted, target)
    login.explain(process.returncode)
    if process.returncode or copied < len(wanted):
        raise RemoteFailed(
            f"{copied} of {len(wanted)} files were copied from {login.host}; run the command again: it continues"
        )
    return copied
