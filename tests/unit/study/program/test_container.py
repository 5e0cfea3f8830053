"""[train] container: what is refused in one line, and the exact command line of each engine. No shell is in between."""

from dataclasses import replace
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.config import validated
from lvjobs.study.program.container import ContainerConfig, misread, mount_problem
from lvjobs.study.program.engines import Inside, in_container, outermost
from lvjobs.study.settings import settings_model

GOOD = {"image": "solver.sqfs", "engine": "charliecloud"}
HOSTILE = ["a b", "'", '"', "$(touch x)", "`touch x`", ";touch x", "a\nb", "-rf", "--rm", "--", "&&", "*", "\\", ""]
JOB = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "USER": "ada",
    "LD_LIBRARY_PATH": "/opt/cuda/lib",
    "PYTHONPATH": "/opt/site",
    "TMPDIR": "/local/1",
    "CUDA_VISIBLE_DEVICES": "0,1",
    "WANDB_API_KEY": "0123456789",
    "BASH_FUNC_module%%": "() {  eval $1\n}",
    "LINES2": "a\nb",
    "XDG_RUNTIME_DIR": "/run/user/1",
}
OWN = {"LVJOBS_RUN": "base", "NOTE": "it's $HOME, a:b"}
INSIDE = Inside(
    "/data/solver", Path("/s/checkpoints/base/000001.work"), [Path("/s/.lvjobs/code/1/_program")], False, JOB, OWN
)
COMMAND = ["./heat", "-o", "out"]


def settings(container):
    values = {"command": ["./heat"], "flops": 1e6, "container": container}
    return validated(settings_model(values), values, "settings").container


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"engine": "docker"}, "'docker' is not an engine; write one of charliecloud, apptainer, enroot, podman-hpc"),
        ({"engine": "pyxis"}, 'write engine = "enroot", which runs the same images'),
        ({"engine": None}, "container.engine: field required; add it"),
        ({"image": None}, "container.image: field required; add it"),
        ({"image": ""}, "at least 1 character"),
        ({"image": "a\0b"}, "has a control character; rename the image"),
        ({"image": "docker://python:3.12"}, "is not an image for charliecloud; name an image directory or a SquashFS"),
        ({"image": "docker://python:3.12", "engine": "enroot"}, "is not an image for enroot; name a SquashFS file"),
        ({"image": "docker://$(touch x)", "engine": "apptainer"}, "is not an image for apptainer; name a file (.sif)"),
        ({"image": "ftp://host/x", "engine": "apptainer"}, "is not an image for apptainer"),
        (
            {"image": "/data/x.sqfs", "engine": "podman-hpc"},
            "is not an image for podman-hpc; name the name of an image",
        ),
        ({"image": "--privileged", "engine": "podman-hpc"}, "is not an image for podman-hpc"),
        ({"bind": ["rds"]}, "'rds' is not an absolute path"),
        ({"bind": ["--write"]}, "'--write' is not an absolute path"),
        ({"bind": ["/rds/../etc"]}, "is not an absolute path without '..'"),
        ({"bind": ["/"]}, "'/' would hide the image"),
        ({"bind": ["/rds:/data"]}, "'/rds:/data' cannot be bound, because engines would end it early"),
        ({"bind": ["/rds,/etc"]}, "cannot be bound"),
        ({"bind": ["/rds "]}, "cannot be bound"),
        ({"bind": ["/a\nb"]}, "cannot be bound"),
        ({"bind": ['/a"b']}, "cannot be bound"),
        ({"bind": ["/r d s"], "engine": "enroot"}, "enroot would misread '/r d s'"),
        ({"gpus": 1}, "unknown key 'container.gpus'; did you mean 'gpu'?"),
    ],
)
def test_a_wrong_container_is_refused_in_one_line(container, words):
    values = {key: value for key, value in {**GOOD, **container}.items() if value is not None}
    with pytest.raises(UsageError) as refused:
        settings(values)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("engine", "image", "path"),
    [
        ("charliecloud", "solver", "/s/solver"),
        ("charliecloud", "-x $(y);z", "/s/-x $(y);z"),
        ("apptainer", "/data/a b.sif", "/data/a b.sif"),
        ("apptainer", "docker://docker.io/library/python:3.12", None),
        ("apptainer", "oras://ghcr.io/lab/solver@sha256:" + "0" * 64, None),
        ("podman-hpc", "localhost:5000/lab/solver:v1.2", None),
    ],
)
def test_an_image_is_a_path_of_the_study_or_a_reference(engine, image, path):
    assert settings({"image": image, "engine": engine}).path(Path("/s")) == (path and Path(path))


def arguments(engine, **changes):
    own = {key: changes.pop(key) for key in ("bind",) if key in changes}
    image = "lab/solver:1" if engine == "podman-hpc" else "solver"
    return in_container(ContainerConfig(image=image, engine=engine, **own), replace(INSIDE, **changes), COMMAND)


def test_the_command_line_of_charliecloud():
    command, environment = arguments("charliecloud", bind=["/rds"], has_variables=True, gpu=True)
    assert command == [
        "ch-run",
        "--write-fake",
        "--bind=/rds",
        "--bind=/s/.lvjobs/code/1/_program",
        "--bind=/s/checkpoints/base/000001.work",
        "--cd=/s/checkpoints/base/000001.work",
        "--unset-env=PATH",
        "--set-env",
        "--env-no-expand",
        "--set-env=LVJOBS_RUN='base'",
        "--set-env=NOTE='it's $HOME, a:b'",
        "/data/solver",
        "--",
        *COMMAND,
    ]
    assert environment.keys() == JOB.keys() - {"LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR"} | {"LVJOBS_RUN"}
    assert "--set-env" not in arguments("charliecloud")[0]


def test_the_command_line_of_apptainer():
    command, environment = arguments("apptainer", bind=["/rds"], gpu=True)
    assert command == [
        "apptainer",
        "exec",
        "--nv",
        "--bind=/rds",
        "--bind=/s/.lvjobs/code/1/_program",
        "--bind=/s/checkpoints/base/000001.work",
        "--pwd=/s/checkpoints/base/000001.work",
        "/data/solver",
        *COMMAND,
    ]
    assert environment["APPTAINERENV_NOTE"] == OWN["NOTE"]
    assert environment["APPTAINERENV_LVJOBS_RUN"] == environment["LVJOBS_RUN"] == "base"
    assert not {"LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "NOTE"} & environment.keys()
    assert "--nv" not in arguments("apptainer")[0]


def test_the_command_line_of_enroot():
    command, _ = arguments("enroot", bind=["/rds"], gpu=True)
    assert command == [
        "enroot",
        "start",
        "--mount=/rds:/rds:none:x-create=auto,rbind",
        "--mount=/s/.lvjobs/code/1/_program:/s/.lvjobs/code/1/_program:none:x-create=auto,rbind",
        "--mount=/s/checkpoints/base/000001.work:/s/checkpoints/base/000001.work:none:x-create=auto,rbind",
        "--env=CUDA_VISIBLE_DEVICES",
        "--env=WANDB_API_KEY",
        "--env=NVIDIA_VISIBLE_DEVICES=all",
        "--env=NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "--env=LVJOBS_RUN=base",
        "--env=NOTE=it's $HOME, a:b",
        "--",
        "/data/solver",
        *("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", "/s/checkpoints/base/000001.work"),
        *COMMAND,
    ]
    assert "--env=NVIDIA_VISIBLE_DEVICES=void" in arguments("enroot")[0]


def test_the_command_line_of_podman_hpc():
    command, _ = arguments("podman-hpc", bind=["/rds"], gpu=True, image="lab/solver:1")
    assert command == [
        "podman-hpc",
        "run",
        "--gpu",
        "--",
        "--rm",
        "--network=host",
        "--ipc=host",
        "--entrypoint=",
        "--volume=/rds:/rds",
        "--volume=/s/.lvjobs/code/1/_program:/s/.lvjobs/code/1/_program",
        "--volume=/s/checkpoints/base/000001.work:/s/checkpoints/base/000001.work",
        "--workdir=/s/checkpoints/base/000001.work",
        "--env=CUDA_VISIBLE_DEVICES",
        "--env=WANDB_API_KEY",
        "--env=LVJOBS_RUN=base",
        "--env=NOTE=it's $HOME, a:b",
        "lab/solver:1",
        *COMMAND,
    ]
    assert "--gpu" not in arguments("podman-hpc")[0]


@pytest.mark.parametrize("engine", ["charliecloud", "apptainer", "enroot", "podman-hpc"])
def test_hostile_text_stays_one_argument_and_no_secret_is_on_the_command_line(engine):
    own = {**OWN, **{f"V{number}": text for number, text in enumerate(HOSTILE)}}
    container = ContainerConfig(image="lab/solver:1" if engine == "podman-hpc" else "x", engine=engine)
    plain, _ = in_container(container, INSIDE, [])
    command, environment = in_container(container, replace(INSIDE, own=own), HOSTILE)
    assert command[-len(HOSTILE) :] == HOSTILE
    if engine == "apptainer":
        assert [environment[f"APPTAINERENV_V{number}"] for number in range(len(HOSTILE))] == HOSTILE
        assert len(command) == len(plain) + len(HOSTILE)
    else:
        quote = "'" if engine == "charliecloud" else ""
        ends = tuple(f"V{number}={quote}{text}{quote}" for number, text in enumerate(HOSTILE))
        passed = [each for each in command[: -len(HOSTILE)] if each.endswith(ends) and each.startswith("--")]
        assert [each.partition("=")[2] for each in passed] == list(ends)
        assert len(command) == len(plain) + 2 * len(HOSTILE)
    assert not any("0123456789" in each for each in command)


@pytest.mark.parametrize("image", ["/d/it's.sqsh", "/d/a b.sqsh", "/d/$(touch x).sqsh", "/d/;x.sqsh", "/d/a\\b.sqsh"])
def test_enroot_gets_no_image_whose_name_its_own_shell_would_read(image):
    container = ContainerConfig(image=image, engine="enroot")
    assert "enroot would misread" in next(misread(container, Path("/s"), [], {}))
    assert not list(misread(ContainerConfig(image="/d/solver+1.sqsh", engine="enroot"), Path("/s"), [], {}))


def test_what_an_engine_would_misread_of_the_study_is_found():
    container = ContainerConfig(**GOOD)
    assert not list(misread(container, Path("/s"), [Path("/my study/checkpoints")], {"A": "1\n2"}))
    (problem,) = misread(container, Path("/s"), [Path("/a:b/checkpoints")], {})
    assert "'/a:b/checkpoints' cannot be bound" in problem
    (problem,) = misread(container, Path("/s"), [], {"A B": "1"})
    assert "no variable in a container may be called 'A B'" in problem
    enroot = ContainerConfig(image="x.sqsh", engine="enroot")
    problems = list(misread(enroot, Path("/s"), [Path("/my study/checkpoints")], {"A": "1\n2"}))
    assert ["enroot would misread '/my study/checkpoints'" in problems[0], "several lines" in problems[1]] == [True] * 2


def test_a_path_below_another_one_is_bound_once():
    assert outermost(["/rds/a", "/rds", "/rds-2", "/s", "/rds/a/b", "/s/"]) == ["/rds", "/rds-2", "/s"]
    assert not mount_problem("/home/ada/my study", "apptainer")
