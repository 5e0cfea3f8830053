"""`lvjobs doctor` about a program's container: its engine and image here, and what a job sees inside."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from container_images import make_image
from doctor_helpers import asked_of, told

from lvjobs.doctor.container import check_container, check_inside
from lvjobs.records.node import Inside, NodeReport
from lvjobs.study.program.container import ContainerConfig
from lvjobs.worker.container_probe import probe_container

SEEN = NodeReport("node7", torch=None)


@pytest.fixture
def asked(tmp_path):
    (tmp_path / "study" / "image").mkdir(parents=True)
    container = ContainerConfig(image="image", engine="charliecloud")
    return replace(asked_of(tmp_path / "study", "local"), container=container)


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """A PATH of its own, on which the engines are that a test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def put(engines, name, *lines):
    path = engines / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o700)
    return path


def test_an_engine_and_an_image_that_are_there(asked, engines):
    engine = put(engines, "ch-run")
    (line,) = told(check_container(asked), "fine")
    assert line.startswith(f"{asked.study.root}/image, started by {engine}")
    assert list(check_container(replace(asked, container=None))) == []


def test_a_missing_engine_is_an_error_here_and_a_note_where_jobs_run_elsewhere(asked, engines):
    (line,) = told(check_container(asked), "error")
    assert line.startswith("ch-run is not on PATH | the program cannot be started | load it with modules under")
    (line,) = told(check_container(replace(asked, profile="generic")), "note")
    assert (
        "ch-run is not on PATH here | jobs need it on PATH | only a job can show it; type: lvjobs doctor --job" in line
    )


@pytest.mark.parametrize(
    ("image", "engine", "words"),
    [
        ("gone", "charliecloud", "gone does not exist"),
        ("image", "enroot", "image is a directory; name a SquashFS file"),
    ],
)
def test_an_image_that_cannot_be_run_is_an_error(asked, engines, image, engine, words):
    wrong = replace(asked, container=ContainerConfig(image=image, engine=engine))
    (line,) = told(check_container(wrong), "error")
    assert words in line
    assert "submit refuses it" in line


@pytest.mark.parametrize(
    ("inside", "level", "words"),
    [
        (None, "note", "the container did not answer within the job's minute"),
        (Inside(problem="ch-run is not on PATH in the job"), "error", "image does not start: ch-run is not on PATH"),
        (Inside(seconds=0.24), "fine", "image starts, and has no Python; answered in 0.2 s"),
        (Inside(python="3.12.1", seconds=1), "fine", "image has Python 3.12.1, no torch; answered in 1.0 s"),
        (Inside("", "3.12.1", "2.9", ["A100"]), "fine", "torch 2.9, which sees A100; answered"),
        (Inside("torch: no driver", "3.12.1", "2.9"), "error", "torch 2.9; torch: no driver"),
        (Inside("", "3.12.1", "2.9"), "error", "torch 2.9, which sees 0 of 1 GPUs"),
    ],
)
def test_what_a_job_saw_inside(tmp_path, asked, inside, level, words):
    wanting = replace(asked_of(tmp_path / "study", "generic", gpus=1), container=asked.container)
    (line,) = told(check_inside(replace(SEEN, container=inside), wanting), level)
    assert words in line


def test_a_report_of_an_older_job_says_nothing_of_a_container():
    report = NodeReport.from_json('{"host": "x", "torch": null}')
    assert report.container is None
    kept = replace(report, container=Inside("", "3.12.1", "2.9", ("A100",), 1.0))
    assert NodeReport.from_json(kept.to_json()).container == replace(kept.container, devices=["A100"])


def test_the_image_starts_and_has_no_python(tmp_path):
    """In a real container (charliecloud)."""
    make_image(tmp_path / "image", true="true.c")
    inside = probe_container(ContainerConfig(image="image", engine="charliecloud"), tmp_path, tmp_path)
    assert (inside.problem, inside.python, inside.torch) == ("", "", "")
    assert inside.seconds > 0


def test_the_python_in_the_image_answers(tmp_path):
    """The image has nothing of its own: it gets this Python from outside, bound into it."""
    image = make_image(tmp_path / "image")
    for name in ("lib", "lib64"):
        target = Path("/", name)
        if target.is_symlink():
            (image / name).symlink_to(target.readlink())
    python = Path(sys.base_prefix, "bin", "python3")
    (image / "bin" / "python3").symlink_to(python.resolve())
    bind = ["/usr", *([] if python.is_relative_to("/usr") else [sys.base_prefix])]
    container = ContainerConfig(image="image", engine="charliecloud", bind=bind)
    inside = probe_container(container, tmp_path, tmp_path)
    assert inside.problem == ""
    assert inside.python == sys.version.split()[0]


def test_an_image_in_which_nothing_can_be_started_is_a_problem_in_the_engine_s_words(tmp_path):
    make_image(tmp_path / "image")
    inside = probe_container(ContainerConfig(image="image", engine="charliecloud"), tmp_path, tmp_path)
    assert "can't execve" in inside.problem
    assert "python3" in inside.problem


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (None, "apptainer is not on PATH in the job"),
        (["echo hello"], "its Python answered 'hello'"),
        (["exit 3"], "it ended without a word"),
        (["echo 'FATAL: no' >&2", "exit 255"], "FATAL: no"),
    ],
)
def test_an_engine_that_fails_is_a_problem(tmp_path, engines, lines, problem):
    if lines is not None:
        put(engines, "apptainer", *lines)
    container = ContainerConfig(image="docker://python:3.12", engine="apptainer")
    assert probe_container(container, tmp_path, tmp_path).problem == problem


def test_an_engine_that_does_not_answer_is_ended(tmp_path, engines, monkeypatch):
    monkeypatch.setattr("lvjobs.worker.container_probe._SECONDS", 0.2)
    (engines / "sleep").symlink_to(shutil.which("sleep", path=os.defpath) or "/bin/sleep")
    put(engines, "apptainer", "exec sleep 600")
    container = ContainerConfig(image="docker://python:3.12", engine="apptainer")
    assert probe_container(container, tmp_path, tmp_path).problem == "no answer in 0 s"
