"""The check that the profile's script has all that runs need to survive (docs/profiles.md)."""

import re
from collections.abc import Iterator

from lvjobs.cluster.profiles import render
from lvjobs.cluster.protocol import JobRequest
from lvjobs.control.submission.declare import check_profile_resources
from lvjobs.doctor.interface import Asked, Diagnosis, error, fine, note
from lvjobs.errors import UsageError

SUBJECT = "profile"


def check_profile(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the profile gives a script, and whether runs survive with it."""
    try:
        check_profile_resources(asked.profile, asked.resources)
    except UsageError as wrong:
        yield error(SUBJECT, str(wrong), "submit refuses it")
        return
    if asked.script is None:
        yield fine(SUBJECT, "local: jobs are processes of this machine, with no Slurm")
        return
    request = asked.sample()
    try:
        text = render(asked.script, request)
    except UsageError as wrong:
        yield error(SUBJECT, wrong.problem, "no script can be written, so submit refuses it", wrong.remedy)
        return
    lacking = [*what_is_lost(text, request)]
    yield from lacking
    if not lacking:
        yield fine(SUBJECT, f"{asked.profile}: the script has all that recovery needs")


_SEE_WORKER = "see the end of slurm_templates/_worker.sh.j2"
_NEEDS = (
    (
        error,
        r"^#SBATCH\s+(--job-name=|-J\s*)['\"]?JOB_NAME",
        "does not name the job",
        "a job whose sbatch reply was lost cannot be found again",
        "#SBATCH --job-name={{ job_name }}",
    ),
    (
        error,
        r"^#SBATCH\s+--requeue\b",
        "lacks --requeue",
        "where JobRequeue=0, a preempted job ends; lvjobs has to submit it again",
        "#SBATCH --requeue",
    ),
    (
        note,
        r"^#SBATCH\s+--open-mode=append\b",
        "lacks --open-mode=append",
        "a requeued job overwrites its log",
        "#SBATCH --open-mode=append",
    ),
    (
        error,
        r"^#SBATCH\s+--signal=(USR2|SIGUSR2|12)@",
        "lacks --signal=USR2@SECONDS (without B:)",
        "a job is not warned of its time limit, and repeats the steps since its last checkpoint",
        "#SBATCH --signal=USR2@{{ lead }}",
    ),
    (
        error,
        r"^\s*(exec\s+)?srun\b",
        "does not start the worker by srun",
        "Slurm signals only job steps, so the worker gets no signal",
        _SEE_WORKER,
    ),
    (
        note,
        "-m lvjobs.worker.wake",
        "does not notify the driver after a worker that could not",
        "a run that was killed, or never started, waits for the driver's next update, up to two minutes",
        _SEE_WORKER,
    ),
    (
        error,
        "PYTHONPATH=CODE_DIRECTORY",
        "does not set PYTHONPATH",
        "a run continues with whatever code is there by then",
        "export PYTHONPATH={{ code_directory }}",
    ),
)
"""What a script needs: the level without it, a pattern of its text, what it lacks, what follows, and the remedy."""


def what_is_lost(text: str, request: JobRequest) -> Iterator[Diagnosis]:
    """Yield what a batch script lacks. Pure."""
    names = {"JOB_NAME": request.job_name, "CODE_DIRECTORY": str(request.code_directory)}
    for level, pattern, lacks, means, remedy in _NEEDS:
        exact = re.sub("|".join(names), lambda match: re.escape(names[match[0]]), pattern)
        if not re.search(exact, text, re.MULTILINE):
            yield level(SUBJECT, f"its script {lacks}", means, remedy)
    sets_path = f"PYTHONPATH={request.code_directory}" in text
    if sets_path and "$PYTHONPATH" in text and not re.search(r"^\s*unset PYTHONPATH\b", text, re.MULTILINE):
        yield note(
            SUBJECT,
            "its script does not unset PYTHONPATH before it loads modules",
            "a job also imports from the PYTHONPATH of the shell that submitted it",
            "see slurm_templates/_modules.sh.j2",
        )
