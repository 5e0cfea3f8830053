"""The check that the profile's script has all that runs need to survive (docs/profiles.md)."""

import re
from collections.abc import Iterator

from lvjobs.cluster.profiles import render
from lvjobs.cluster.protocol import JobRequest
from lvjobs.control.submission.declare import check_profile_resources
from lvjobs.doctor.asked import Asked
from lvjobs.doctor.diagnosis import Diagnosis, error, fine, note
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
        yield fine(SUBJECT, f"{asked.profile}: the script has all that a run needs to survive")


def what_is_lost(text: str, request: JobRequest) -> Iterator[Diagnosis]:
    """Yield what a batch script lacks. Pure."""
    options = re.findall(r"^#SBATCH\s+(.*)$", text, re.MULTILINE)

    def has(pattern: str) -> bool:
        return any(re.match(pattern, option) for option in options)

    if not has(rf"(--job-name=|-J\s*)['\"]?{re.escape(request.job_name)}"):
        means = "a job whose sbatch reply was lost is not found again"
        yield error(SUBJECT, "its script does not name the job", means, "#SBATCH --job-name={{ job_name }}")
    if not has(r"--requeue\b"):
        means = "where JobRequeue=0, a preempted job is over; a pass has to submit it anew"
        yield error(SUBJECT, "its script lacks --requeue", means, "#SBATCH --requeue")
    if not has(r"--open-mode=append\b"):
        yield note(
            SUBJECT,
            "its script lacks --open-mode=append",
            "a requeued job writes over its log",
            "#SBATCH --open-mode=append",
        )
    if not has(r"--signal=(USR2|SIGUSR2|12)@"):
        means = "a job does not hear of its time limit, and loses what it did since its last checkpoint"
        yield error(
            SUBJECT, "its script lacks --signal=USR2@SECONDS (without B:)", means, "#SBATCH --signal=USR2@{{ lead }}"
        )
    if not re.search(r"^\s*(exec\s+)?srun\b", text, re.MULTILINE):
        means = "Slurm signals the steps of a job alone, so the worker hears nothing"
        yield error(
            SUBJECT,
            "its script does not start the worker by srun",
            means,
            "see the end of slurm_templates/_worker.sh.j2",
        )
    if "-m lvjobs.worker.wake" not in text:
        yield note(
            SUBJECT,
            "its script does not wake the driver after a worker that could not",
            "a run that was killed, or never started, waits for the driver's next pass of its own, up to two minutes",
            "see the end of slurm_templates/_worker.sh.j2",
        )
    if f"PYTHONPATH={request.code_directory}" not in text:
        means = "a run goes on with whatever code lies there by then"
        yield error(SUBJECT, "its script does not set PYTHONPATH", means, "export PYTHONPATH={{ code_directory }}")
    elif "$PYTHONPATH" in text and not re.search(r"^\s*unset PYTHONPATH\b", text, re.MULTILINE):
        yield note(
            SUBJECT,
            "its script does not unset PYTHONPATH before it loads modules",
            "a job also imports what the PYTHONPATH of the shell that submitted it names",
            "see slurm_templates/_modules.sh.j2",
        )
