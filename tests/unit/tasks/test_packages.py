"""The packages of an environment are listed by its own Python, and an environment is activated or refused."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.records.software import changed_code, changed_packages, digest_of, parse_packages, shortened
from lvjobs.tasks import packages
from lvjobs.tasks.activation import check_activation, placed_activation, read_activation
from lvjobs.tasks.command import ProgramNeed
from lvjobs.tasks.installed import installed
from lvjobs.tasks.installed import packages as packages_at
from lvjobs.tasks.packages import Unlisted, keep_packages, list_packages, python_of, read_packages


def test_the_list_is_that_of_importlib():
    found = installed()
    every = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version
        for each in importlib.metadata.distributions()
    }
    assert {name: found.get(name) for name in every} == every
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_another_python_lists_its_own_packages(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "Some_Thing-1.0rc1.dist-info").mkdir()
    (site / "old-2.0-py3.11.egg-info").mkdir()
    found = list_packages(tmp_path / "venv" / "bin" / "python", {"PATH": os.environ["PATH"]})
    assert {name: version for name, version in found.items() if name != "python"} == {
        "some-thing": "1.0rc1",
        "old": "2.0",
    }


def test_an_environment_of_conda_has_packages_that_are_not_pythons(tmp_path):
    (tmp_path / "conda-meta").mkdir()
    for name in ("cuda-toolkit-12.4.1-0.json", "numpy-1.26.4-py311h64a7726_0.json", "history"):
        (tmp_path / "conda-meta" / name).touch()
    (tmp_path / "site" / "numpy-1.26.5.dist-info").mkdir(parents=True)
    found = packages_at([str(tmp_path / "site"), str(tmp_path / "gone")], str(tmp_path))
    assert found == {"numpy": "1.26.5", "cuda-toolkit": "12.4.1"}, "what Python imports counts"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "cannot be executed (No such file or directory)"),
        ("#!/bin/sh\necho no module >&2; exit 3\n", "cannot list its packages: no module"),
        ("#!/bin/sh\nexec sleep 60\n", "did not list its packages within 0.2 s"),
    ],
)
def test_a_python_that_cannot_answer_is_named(script, words, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "_SECONDS", 0.2 if script and "sleep" in script else 60.0)
    python = tmp_path / "python"
    if script:
        python.write_text(script)
        python.chmod(0o755)
    with pytest.raises(Unlisted, match=re.escape(words)):
        list_packages(python, os.environ)


@pytest.fixture
def place(tmp_path):
    """A directory with two Pythons by name, and programs that one of them runs."""
    for name, text in {
        "bin/python": "",
        "bin/python3.12": "",
        "bin/torchrun": f"#!{tmp_path}/bin/python3.12\n",
        "bin/accelerate": "#!/usr/bin/env -S python -u\n",
        "bin/trl": f"#!/bin/sh\n'''exec' \"{tmp_path}/bin/python3.12\" \"$0\" \"$@\"\n' '''\n",
        "bin/heat": "\x7fELF",
        "env/bin/python": "",
        "train.sh": "#!/bin/sh\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "activated", "found"),
    [
        (["python", "train.py"], False, "bin/python"),
        (["stdbuf", "-oL", "python3.12", "train.py"], False, "bin/python3.12"),
        (["torchrun", "train.py"], False, "bin/python3.12"),
        (["accelerate", "launch"], False, "bin/python"),
        (["trl", "sft"], False, "bin/python3.12"),
        (["./train.sh"], True, "env/bin/python"),
        (["./train.sh"], False, None),
        (["heat"], False, None),
        (["gone"], False, None),
    ],
)
def test_the_python_of_a_program_is_found(command, activated, found, place):
    environment = {"PATH": str(place / "bin"), **({"VIRTUAL_ENV": str(place / "env")} if activated else {})}
    assert python_of(command, environment, place) == (place / found if found else None)


def test_a_list_is_kept_once(tmp_path):
    first = keep_packages(tmp_path / "kept", {"torch": "2.4.0", "python": "3.11.7"})
    assert keep_packages(tmp_path / "kept", {"python": "3.11.7", "torch": "2.4.0"}) == first
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{first}.txt"]
    found = read_packages(tmp_path / "kept", first)
    assert digest_of(found) == first
    assert read_packages(tmp_path / "kept", "gone") is None
    assert parse_packages("a==1\n-e somewhere\nb==2") == {"a": "1", "b": "2"}


def test_changes_are_named_with_the_important_ones_first():
    before = {"abc": "1", "torch": "2.4.0", **{f"p{number}": "1" for number in range(9)}}
    now = {"abc": "2", "torch": "2.5.1", "new": "3"}
    changes = changed_packages(before, now)
    assert changes[:3] == ["torch 2.4.0 -> 2.5.1", "abc 1 -> 2", "new 3 added"]
    assert shortened(changes).endswith("p4 1 removed and 4 more")
    assert changed_packages(now, now) == []


def test_changed_code_is_named():
    before = {"commit": "a" * 40, "dirty": False, "locks": {"uv.lock": "1", "x": "1"}, "image": {"sha256": "1"}}
    now = {"commit": "a" * 40, "dirty": True, "locks": {"uv.lock": "2"}, "image": {"sha256": "2"}}
    assert changed_code(before, now) == [
        "commit aaaaaaaaaaaa -> aaaaaaaaaaaa (with changes)",
        "uv.lock changed",
        "the container's image changed",
    ]
    assert changed_code({}, now) == changed_code(now, now) == []


@pytest.mark.parametrize(
    ("text", "line", "directory"),
    [
        ("source /rds/venv/bin/activate", "source /rds/venv/bin/activate", "/rds/venv"),
        (". venv/bin/activate", "source /study/venv/bin/activate", "/study/venv"),
        ("source $HOME/venv/bin/activate", "source $HOME/venv/bin/activate", None),
        (
            "module load cuda && source /rds/venv/bin/activate",
            "module load cuda && source /rds/venv/bin/activate",
            None,
        ),
        ("my'venv", """source '/study/my'"'"'venv/bin/activate'""", "/study/my'venv"),
        ("conda:torch", 'eval "$(conda shell.bash hook)" && conda activate torch', None),
        (
            "conda:envs/torch",
            'eval "$(conda shell.bash hook)" && conda activate /study/envs/torch',
            "/study/envs/torch",
        ),
    ],
)
def test_an_activation_is_a_line_for_the_shell(text, line, directory):
    found = read_activation(text, Path("/study"))
    assert (found.line, found.directory) == (line, Path(directory) if directory else None)


def test_an_activation_means_the_same_in_another_directory():
    assert placed_activation("venv", Path("/study")) == "source /study/venv/bin/activate"
    line = placed_activation("module load cuda && source setup.sh", Path("/my study"))
    assert line == "cd '/my study' && module load cuda && source setup.sh"
    assert read_activation(line, Path("/elsewhere")).line == line


def test_an_environment_that_does_not_exist_is_refused(tmp_path):
    for text, words in (
        ("venv", "venv is no virtual environment, for it has no bin/activate; nothing was submitted"),
        ("conda:./envs/a", "envs/a is no environment of conda, for it has no conda-meta; nothing was submitted"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            check_activation(text, tmp_path)
    check_activation("source $HOME/gone/bin/activate", tmp_path)
    check_activation("conda:gone", tmp_path)


def test_a_program_may_be_in_the_environment_alone(place, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # the tests' own environment has torchrun, too
    with pytest.raises(UsageError, match="torchrun is not on PATH"):
        ProgramNeed("torchrun", place, ()).check()
    ProgramNeed("torchrun", place, (place / "bin",)).check()
    ProgramNeed("torchrun", place, None).check()
