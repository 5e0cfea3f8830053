"""Submit, status, resume and report under the conditions of a stranger's machine, all of them at once.

A path with blanks, quotes, `?`, `%` and letters of several scripts; a terminal in ISO-8859-1 or in Turkish; a umask that
gives others nothing; a home that cannot be written; a clock that is put back an hour while the run trains; and an
ordinary user.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from driving import Study, until

pytestmark = pytest.mark.slow

NAME = 'it\'s "mine"? 100%20 größer, наука 日本 '
NOBODY = 65534
LOCALES = {"latin-1": ("en_US", "ISO-8859-1"), "turkish": ("tr_TR", "ISO-8859-9")}


def clock_put_back(seconds):
    """Return a TZ in which summer time ends so many seconds from now: the clock is then put back an hour."""
    end = time.gmtime(time.time() + seconds + 3600)  # on the clock of summer time, which is an hour ahead
    return f"WIN0SUM,{(end.tm_yday + 180) % 365}/0,{end.tm_yday - 1}/{end.tm_hour}:{end.tm_min:02}:{end.tm_sec:02}"


def hour(zone):
    """Return what the clocks of that zone show now: summer time, or no longer."""
    return subprocess.run(["date", "+%Z"], env={"TZ": zone}, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", params=LOCALES)
def locale(request, tmp_path_factory):
    """The environment of a terminal in that locale, which is made here."""
    language, encoding = LOCALES[request.param]
    directory = tmp_path_factory.mktemp("locales")
    directory.chmod(0o755)
    name = f"{language}.{encoding}"
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make a locale with")
    command = ["localedef", "-i", language, "-f", encoding, directory / name]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"localedef has no definition of {name} (the Debian package locales)")
    return {"LC_ALL": name, "LOCPATH": str(directory), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Strange(Study):
    """A study whose commands are typed by an ordinary user under the strange conditions."""

    user = ()
    given = frozenset()

    def give(self):
        """Give the user what this process made in the study."""
        if self.user:
            self.given |= {path for path in self.root.rglob("*") if path.stat().st_uid == 0}
            for path in (self.root, *self.given):
                os.chown(path, NOBODY, NOBODY)

    def start(self, *arguments, **kwargs):
        command = [sys.executable, "-m", "lvjobs", *arguments]
        process = subprocess.Popen(
            [*self.user, *command],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            umask=0o077,
            **kwargs,
        )
        process.begun = time.monotonic()
        return process


@pytest.fixture
def study(tmp_path, locale):
    """A study of an ordinary user in a strange place."""
    parent = tmp_path / NAME
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    study = Strange(
        parent / ("x" * max(1, 200 - len(str(parent)))),
        profile="local",
        environment={**kept, **locale, "HOME": str(home)},
    )
    if os.geteuid() == 0:
        # Reading stays allowed, for the interpreter may be in root's home; all else is an ordinary user's.
        caps = "-all,+dac_read_search"
        ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        study.user = ("setpriv", *ids, f"--inh-caps={caps}", f"--ambient-caps={caps}")
    home.chmod(0o555)
    study.give()
    return study


def test_submit_status_resume_and_report(study):
    assert len(str(study.root)) >= 200
    while hour(zone := clock_put_back(10)) != "SUM":
        pass  # the machine stood still for 10 s
    study.environment["TZ"] = zone
    study.gate("run", 300)
    study.submit("run")
    study.give()
    claim = study.halt("run", 300)
    os.kill(claim["pid"], signal.SIGKILL)
    assert "killed" in study.type("status")
    until(lambda: hour(zone) == "WIN")
    study.type("resume", "run")
    run = study.until("run", "completed")
    assert run["attempts"] == 2
    assert sorted(set(study.executed("run"))) == list(range(1, 1001))
    assert "completed" in study.type("status", "run")
    assert "after 2 attempts" in study.type("why", "run")
    study.type("budget")
    study.type("report")
    page = (study.root / "report" / "index.html").read_text(encoding="utf-8")
    assert "run" in page
    study.type("ledger", "check")
    made = [path for path in study.root.rglob("*") if not path.is_symlink() and path not in study.given]
    assert len(made) > 20
    assert {path.stat().st_uid for path in made} == {study.root.stat().st_uid}
    assert [path for path in made if path.stat().st_mode & 0o077] == []
    assert list(Path(study.environment["HOME"]).iterdir()) == []
