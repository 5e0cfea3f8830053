"""`lvjobs --host`: which commands run on a login node, and how they are sent there."""

import json
import subprocess

import pytest

from lvjobs import remedies
from lvjobs.api.pull import from_lines
from lvjobs.cli import _may_be_remote as may_be_remote
from lvjobs.cli.remote import Login, RemoteFailed, login_for, split_host
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.study.found import options_for

DECLARED = '[remote]\nhost = "login"\nstudy = "~/a study"\n'


@pytest.fixture
def laptop(tmp_path, monkeypatch):
    """A directory whose study is on a login node."""
    (tmp_path / "study.toml").write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    for name in ("LVJOBS_STUDY", "LVJOBS_REMOTE", "LVJOBS_REMOTE_EXECUTABLE", "NO_COLOR", "LVJOBS_SSH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


THERE = Login("login", "~/a study", typed=False)


@pytest.mark.parametrize(
    ("words", "login", "rest"),
    [
        (["status"], THERE, ["status"]),
        (["cancel", "one", "--yes"], THERE, ["cancel", "one", "--yes"]),
        (["--host", "other", "status"], Login("other"), ["status"]),
        (["--host=other", "status", "--study", "s"], Login("other", "s"), ["status"]),
        (["--host", "other", "submit", "run", "--", "x", "--study", "y"], Login("other"), None),
        (["init"], None, ["init"]),
        (["pull"], None, ["pull"]),
        (["status", "--help"], None, ["status", "--help"]),
        (["--version"], None, ["--version"]),
        (["status", "--study", "here"], None, ["status", "--study", "here"]),
        ([], None, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_runs_where_the_study_is(laptop, words, login, rest):
    found, kept = login_for(words)
    assert found == login
    assert kept == (words[2:] if rest is None else rest), "what follows -- is the program's own"


@pytest.mark.parametrize(
    "text",
    [
        DECLARED,
        '[remote]\nhost="login"\nstudy="~/a study"\n',
        '[ remote ]\n  host = "login"\n  study = "~/a study"\n',
        'remote.host = "login"\nremote.study = "~/a study"\n',
        'remote = { host = "login", study = "~/a study" }\n',
    ],
)
def test_a_login_node_is_found_however_it_is_written(laptop, text):
    (laptop / "study.toml").write_text(text)
    assert may_be_remote()
    assert login_for(["status"])[0] == THERE


def test_a_study_without_a_login_node_is_here(laptop):
    (laptop / "study.toml").write_text("# host = 'login'\n[train]\nsteps = 5\n")
    assert not may_be_remote()
    assert login_for(["status"])[0] is None


def test_where_the_ledger_is_commands_run_here(laptop):
    (laptop / "runs.db").touch()
    assert login_for(["status"])[0] is None


def test_what_arrives_is_not_sent_on(laptop, monkeypatch):
    monkeypatch.setenv("LVJOBS_REMOTE", "1")
    assert login_for(["status"])[0] is None


@pytest.mark.parametrize("words", [["--host"], ["--host="], ["--host", "--json"]])
def test_a_host_without_a_name_is_refused(words):
    with pytest.raises(UsageError, match="--host needs the name of a login node"):
        split_host(words)


def test_words_arrive_as_they_were_typed(laptop, tmp_path):
    words = ["note", "one", 'it\'s "5 %" $HOME\n*', ""]
    *ssh, script = Login("login", "~/a study", "~/lvjobs", typed=False).arguments(words)
    assert ssh == ["ssh", "-T", "--", "login"]
    home = tmp_path / "home"
    (home / "a study").mkdir(parents=True)
    program = home / "lvjobs"
    program.write_text('#!/bin/sh\npwd\nfor word; do printf "%s\\0" "$word"; done\n')
    program.chmod(0o755)
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    where, _, rest = done.stdout.partition("\n")
    assert (where, rest.split("\0")[:-1], done.returncode) == (str(home / "a study"), words, 0)


def test_a_terminal_is_a_terminal_there_too(laptop):
    assert THERE.arguments(["status"], terminal=True)[1] == "-t"


def test_messages_name_commands_that_work_where_they_are_read(monkeypatch, tmp_path):
    monkeypatch.setenv("LVJOBS_TYPED_HOST", "me@login")
    monkeypatch.setenv("LVJOBS_TYPED_STUDY", "~/s")
    assert remedies.RESUME_RUN(*options_for(tmp_path), run="one") == "lvjobs --host me@login resume one --study '~/s'"
    assert remedies.CHMOD_OWNER(path="x").startswith("chmod "), "only lvjobs has --host"


@pytest.mark.parametrize(
    ("code", "words"), [(255, "ssh could not run the command"), (127, "login has no command lvjobs")]
)
def test_what_is_no_exit_code_of_lvjobs_is_explained(code, words):
    with pytest.raises(RemoteFailed, match=words):
        Login("login").explain(code)
    for own in (0, 1, 2, 130):
        Login("login").explain(own)


def test_host_comes_before_a_command(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed("--host")[0] == 2
    assert typed("--host", "login")[0] == 2


@pytest.mark.parametrize("to", ["../.bashrc", "/etc/profile", "adapters/../../x"])
def test_a_login_node_cannot_write_outside_the_directory(to):
    line = json.dumps({"path": "report/index.html", "to": to, "size": 1, "mtime_ns": 1})
    with pytest.raises(LvjobsError, match="leaves the directory"):
        from_lines(line + "\n")
    assert from_lines(line.replace(to, "report/index.html") + "\n")[0].to == "report/index.html"
