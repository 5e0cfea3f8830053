"""Submit, status, resume and report under the conditions of a stranger's machine, all of them at once.

A path with blanks, quotes, `?`, `%` and letters of several scripts; a terminal in ISO-8859-1 or in Turkish; a umask that
gives others nothing, or everything; a home that cannot be written; a clock that is put back an hour while the run
trains, and again while it waits; and an ordinary user.
"""

import os
import shlex
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
NOTE = "# für Größe, наука, 日本"
NOBODY = 65534
LOCALES = {"latin-1": ("en_US", "ISO-8859-1"), "turkish": ("tr_TR", "ISO-8859-9")}


UMASKS = {"latin-1": 0o077, "turkish": 0}
"""One that gives others nothing, and one that gives them everything."""

CLOCK = """\
import os, time

true_time = time.time


def put_back():
    try:
        return true_time() - os.stat(os.path.join(os.path.dirname(__file__), "seconds")).st_size
    except FileNotFoundError:
        return true_time()


time.time = put_back
"""
"""A sitecustomize.py: Python's clock is behind by as many seconds as the file beside it has bytes."""


@pytest.fixture(scope="module", params=LOCALES)
def locale(request, tmp_path_factory):
    """The environment of a terminal in that locale, which is made here, and the umask of its shell."""
    language, encoding = LOCALES[request.param]
    directory = tmp_path_factory.mktemp("locales")
    directory.chmod(0o755)
    name = f"{language}.{encoding}"
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make a locale with")
    command = ["localedef", "-i", language, "-f", encoding, directory / name]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"localedef has no definition of {name} (the Debian package locales)")
    environment = {"LC_ALL": name, "LOCPATH": str(directory), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return environment, UMASKS[request.param]


class Strange(Study):
    """A study whose commands are typed by an ordinary user under the strange conditions."""

    user = ()
    umask = 0o077
    clock = None
    given = frozenset()

    def give(self):
        """Give the user what this process made in the study."""
        if self.user:
            self.given |= {path for path in self.root.rglob("*") if path.stat().st_uid == 0}
            for path in (self.root, *self.given):
                os.chown(path, NOBODY, NOBODY)

    def put_clock_back(self, hours):
        """Let the clock of its commands and jobs be so many hours behind."""
        self.clock.write_bytes(bytes(hours * 3600))

    def start(self, *arguments, **kwargs):
        command = [sys.executable, "-m", "lvjobs", *arguments]
        process = subprocess.Popen(
            [*self.user, *command],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            umask=self.umask,
            **{"cwd": self.root, **kwargs},
        )
        process.begun = time.monotonic()
        return process


@pytest.fixture
def study(tmp_path, locale):
    """A study of an ordinary user in a strange place."""
    parent = tmp_path / NAME
    home = tmp_path / "home"
    home.mkdir()
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    environment, umask = locale
    python_path = os.pathsep.join(filter(None, [str(clock), os.environ.get("PYTHONPATH")]))
    study = Strange(
        parent / ("x" * max(1, 200 - len(str(parent)))),
        profile="local",
        environment={**environment, "PATH": os.environ["PATH"], "PYTHONPATH": python_path, "HOME": str(home)},
    )
    settings = study.root / "study.toml"
    settings.write_text(f"{NOTE}\n{settings.read_text()}", encoding="utf-8")
    study.umask, study.clock = umask, clock / "seconds"
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
    study.gate("run", 300)
    study.gate("run", 600, generation=2)
    study.give()
    study.submit("run")
    claim = study.halt("run", 300)
    study.put_clock_back(1)
    assert study.run("run")["state"] == "running", "a process that lives is taken for one that is gone"
    os.kill(claim["pid"], signal.SIGKILL)
    until(lambda: study.run("run") and study.is_at_gate("run", 600, generation=2))
    os.kill(study.claims("run")[1]["pid"], signal.SIGKILL)
    run = study.until("run", "interrupted")
    assert run["not_before"], "no back-off, which a clock could lengthen"
    assert "killed" in study.type("status")
    study.put_clock_back(2)
    run = study.until("run", "completed")  # a back-off that a clock lengthened takes hours
    assert run["attempts"] == 3
    assert sorted(set(study.executed("run"))) == list(range(1, 1001))
    assert "completed" in study.type("status", "run")
    assert "after 3 attempts" in study.type("why", "run")
    begun = study.start("why", "walk", "--study", study.root.name, cwd=study.root.parent)
    _, said = begun.communicate(timeout=600)
    *words, place = shlex.split(said.partition("type: ")[2])
    assert words == ["lvjobs", "status", "--study"], said
    # Bytes of other letters may be control characters in this locale, which are shown as escapes.
    assert 'it\'s "mine"? 100%20 gr' in place
    assert place.endswith(f" /{study.root.name}")
    study.type("budget", "set", "1e16", "--because", "größer nie")
    assert NOTE in (study.root / "study.toml").read_text(encoding="utf-8")
    study.type("report")
    page = (study.root / "report" / "index.html").read_text(encoding="utf-8")
    assert NOTE in page
    study.type("ledger", "check")
    made = [path for path in study.root.rglob("*") if not path.is_symlink() and path not in study.given]
    assert len(made) > 20
    assert {path.stat().st_uid for path in made} == {study.root.stat().st_uid}
    compiled = study.root / "__pycache__"  # Python keeps it beside the user's own code, by the shell's umask
    private = [path for path in made if compiled not in (path, path.parent)]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    assert list(Path(study.environment["HOME"]).iterdir()) == []
