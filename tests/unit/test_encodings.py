"""Text files and the output of programs are read and written as UTF-8, whatever the locale of the terminal is."""

import ast
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.protocol import JobRequest

ROOT = Path(__file__).parent.parent.parent
TOML = """\
# für Größe, наука, 日本
profile = "local"

[budget]
limit = 1e15  # größer nie
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory):
    """The environment of a terminal in ISO-8859-1."""
    directory = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make a locale with")
    name = "en_US.ISO-8859-1"
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", directory / name], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("localedef has no definition of en_US in ISO-8859-1")
    return ASCII | {"LC_ALL": name, "LOCPATH": str(directory)}


@pytest.fixture(params=["ascii", "latin_1"])
def locale(request):
    return ASCII if request.param == "ascii" else request.getfixturevalue("latin_1")


def python(locale, *arguments, cwd):
    """Run Python in that locale; its output as bytes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, cwd=cwd, env=environment | locale, capture_output=True, check=False)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode(errors="replace")
    return ran.stdout


def test_the_locales_are_what_they_claim(locale, tmp_path):
    said = python(locale, "-c", "import locale; print(locale.getpreferredencoding(False))", cwd=tmp_path)
    assert said.strip() in (b"ANSI_X3.4-1968", b"ISO-8859-1")


def test_budget_set_keeps_every_byte_of_the_comments(locale, tmp_path):
    (tmp_path / "study.toml").write_text(TOML, encoding="utf-8")
    python(locale, "-m", "lvjobs", "budget", "set", "2e14", cwd=tmp_path)
    assert (tmp_path / "study.toml").read_bytes() == TOML.replace("1e15", "2e14").encode()


def test_a_reason_in_another_encoding_is_recorded(tmp_path):
    (tmp_path / "study.toml").write_text(TOML, encoding="utf-8")
    for limit, reason in (("2e15", "más"), ("3e15", b"m\xe1s")):
        python(ASCII, "-m", "lvjobs", "budget", "set", limit, "--because", reason, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        rows = connection.execute("SELECT details FROM events WHERE kind = 'budget' ORDER BY id").fetchall()
    assert [json.loads(details)["reason"] for (details,) in rows] == ["más", "m\ufffds"]


def test_a_study_with_an_umlaut_in_its_path_is_reconciled(locale, tmp_path):
    study = tmp_path / "größe"
    study.mkdir()
    (study / "study.toml").write_text(TOML, encoding="utf-8")
    assert b'"schema"' in python(locale, "-m", "lvjobs", "status", "--json", cwd=study)


SUBMIT = """\
import pathlib
from lvjobs.cluster.sbatch import submit_script
script = pathlib.Path("script").read_text(encoding="utf-8")
print(submit_script(script, pathlib.Path("submissions"), 30))
"""


def test_the_batch_script_reaches_slurm_unchanged(locale, tmp_path, monkeypatch):
    (tmp_path / "script").write_text("#!/bin/sh\necho größe 日本\n", encoding="utf-8")
    for name, body in (("sbatch", f'cp "$1" {tmp_path}/seen && echo Submitted batch job 7'), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert python(locale, "-c", SUBMIT, cwd=tmp_path) == b"7\n"
    assert (tmp_path / "seen").read_bytes() == (tmp_path / "script").read_bytes()


RENDER = """\
import pathlib, sys
from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.protocol import JobRequest
here = pathlib.Path.cwd()
request = JobRequest("a" * 12, "run", [here / "run"], here / "logs", here / "code", "/python")
sys.stdout.buffer.write(render(load_profile("generic"), request).encode())
"""


def test_a_batch_script_names_paths_by_their_own_bytes(locale, tmp_path):
    here = tmp_path / "größe"
    here.mkdir()
    request = JobRequest("a" * 12, "run", [here / "run"], here / "logs", here / "code", "/python")
    assert python(locale, "-c", RENDER, cwd=here).decode() == render(load_profile("generic"), request)


def opens_text_without_an_encoding(call):
    """Return whether a call in the source opens text and leaves the encoding to the locale."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    function = call.func
    is_method = isinstance(function, ast.Attribute)
    name = function.attr if is_method else getattr(function, "id", "")
    owner = function.value.id if is_method and isinstance(function.value, ast.Name) else ""
    if "encoding" in given or (owner, name) == ("os", "open"):
        return False
    if name in {"read_text", "write_text"}:
        return len(call.args) < (1 if name == "read_text" else 2)
    if name in {"run", "Popen", "check_output"}:
        return "text" in given or "universal_newlines" in given
    if name in {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile"}:
        place = 1 if name == "fdopen" or (name == "open" and not is_method) else 0
        binary = "r" if name in {"open", "fdopen"} else "w+b"
        mode = given.get("mode", call.args[place] if len(call.args) > place else ast.Constant(binary))
        return isinstance(mode, ast.Constant) and "b" not in str(mode.value)
    return False


def test_no_source_leaves_an_encoding_to_the_locale():
    """Ruff's PLW1514 sees only calls on what it knows to be a path, and no subprocess."""
    sources = [path for room in ("lvjobs", "scripts", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 300
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*sources, ROOT / "benchmarks" / "run"]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text_without_an_encoding(node)
    ]
    assert found == []
