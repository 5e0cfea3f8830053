"""The checks of a program's container: its engine and image on this machine, and what a test job saw inside."""

import shutil
from collections.abc import Iterator

from lvjobs import remedies
from lvjobs.doctor.interface import LAB, Asked, Diagnosis, error, fine, note
from lvjobs.records.node import NodeReport
from lvjobs.study.program.container import EXECUTABLES, misread
from lvjobs.tasks.image import image_problem

SUBJECT, INSIDE = "container", "node: container"

_LOAD = "load it with modules under [resources], or install it"


def check_container(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the engine of the study's container is on PATH, and whether it could run the image."""
    container, root = asked.container, asked.study.root
    if container is None:
        return
    layout = asked.study.layout
    paths = (layout.checkpoints, layout.code)
    if problem := next(misread(container, root, paths, {}), "") or image_problem(container, root):
        yield error(SUBJECT, problem, "submit refuses it")
        return
    program = EXECUTABLES[container.engine]
    place = shutil.which(program)
    image = container.path(root) or container.image
    if place is not None:
        yield fine(SUBJECT, f"{image}, started by {place}")
    elif asked.is_elsewhere:
        only = f"only a job can show it; type: {remedies.DOCTOR_JOB(*asked.typed)}"
        yield note(SUBJECT, f"{image}; {program} is not on PATH here", "jobs need it on PATH", only)
    else:
        yield error(SUBJECT, f"{program} is not on PATH", "the program cannot be started", _LOAD)


def check_inside(report: NodeReport, asked: Asked) -> Iterator[Diagnosis]:
    """Yield what a test job saw in the container."""
    container, inside = asked.container, report.container
    if container is None:
        return
    if inside is None:
        yield note(INSIDE, "the container did not answer within the job's minute")
        return
    if inside.problem and not inside.python:
        means = "a run would end with this error"
        yield error(INSIDE, f"{container.image} does not start: {inside.problem}", means, _LOAD)
        return
    took = f"answered in {inside.seconds:.1f} s"
    if not inside.python:
        yield fine(INSIDE, f"{container.image} starts, and has no Python; {took}")
        return
    what = f"{container.image} has Python {inside.python}, {f'torch {inside.torch}' if inside.torch else 'no torch'}"
    wanted = int(asked.variables.get("gpus") or 0)
    if inside.problem:
        yield error(INSIDE, f"{what}; {inside.problem}", "a program that uses torch would end with this error")
    elif inside.torch and len(inside.devices) < wanted and asked.profile != LAB:
        yield error(
            INSIDE,
            f"{what}, which sees {len(inside.devices)} of {wanted} GPUs",
            "a program would be charged for GPUs and run on CPUs",
            "set gpu = true in container, and use an image whose torch is built for the node's driver",
        )
    else:
        seen = f", which sees {', '.join(inside.devices)}" if inside.devices else ""
        yield fine(INSIDE, f"{what}{seen}; {took}")
