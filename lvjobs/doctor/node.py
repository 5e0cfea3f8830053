"""The conclusions from a test job's report. Pure."""

from collections.abc import Iterator

from lvjobs import remedies
from lvjobs.doctor.container import check_inside
from lvjobs.doctor.errand import Errand
from lvjobs.doctor.interface import LAB, Asked, Diagnosis, error, fine, note
from lvjobs.records.node import NodeReport, Torch

JOB = "test job"

_SCRATCH_BYTES = 1 << 30


_PATIENCE_SECONDS = 3600


def check_errand(errand: Errand, asked: Asked, *, timeout: float = 0.0) -> Iterator[Diagnosis]:
    """Yield the result of the test job, for which `timeout` seconds were waited, and what it found on its node."""
    if errand.left:
        remedy = "" if asked.is_local else f"to end it, type: {remedies.SCANCEL(job=errand.left_job)}"
        yield error(JOB, errand.left, remedy=remedy)
    if errand.refused:
        yield error(
            JOB,
            f"it was not submitted: {errand.refused}",
            "no run of this study can be submitted like this",
            "change [resources] in study.toml, or give --partition, --account, --qos or --time-limit",
        )
        return
    report = errand.report
    if report is None:
        yield _without_report(errand, asked, timeout)
        return
    waited = "" if errand.waited is None else f" after {errand.waited:.0f} s"
    where = report.host if report.node in ("", report.host) else f"{report.node} ({report.host})"
    yield fine(JOB, f"job {errand.job_id} ran{waited}, on {where}; it is gone from the queue")
    python, version = report.versions.get("python", "?"), report.versions.get("lvjobs", "?")
    yield fine("node: Python", f"{python} at {report.python}, lvjobs {version} by the code that was sent")
    yield from _check_gpus(report, asked)
    yield from check_inside(report, asked)
    yield from _check_files(report)
    if not asked.is_local:
        yield from _check_slurm(report, asked)


def _without_report(errand: Errand, asked: Asked, timeout: float) -> Diagnosis:
    name = f"job {errand.job_id}" if errand.job_id else "it"
    if errand.interrupted:
        why = f" while it waited: {errand.last_reason}" if errand.waited is None and errand.last_reason else ""
        return note(JOB, f"{name} was interrupted{why}; it was cancelled")
    if errand.waited is None:
        why = f": {errand.last_reason}" if errand.last_reason else ""
        longer = max(_PATIENCE_SECONDS, 2 * round(timeout))
        return note(
            JOB,
            f"{name} did not begin in time{why}; it was cancelled",
            "nothing is wrong with it as far as is known: the queue is longer than the patience",
            f"to wait longer, type: {remedies.DOCTOR_PATIENT(*asked.typed, seconds=longer)}; "
            "a QOS or partition for tests starts sooner, where the site has one",
        )
    printed = f"; it printed: {' / '.join(errand.log.splitlines()[-3:])}" if errand.log else ", and printed nothing"
    state = f" ({errand.ended})" if errand.ended else ""
    return error(
        JOB,
        f"{name} ran{state}, and left no report{printed}",
        "a run would end in the same way: the node cannot start this Python, or does not see this directory",
        "put the study, and the virtual environment, on a file system that nodes share; modules under [resources]",
    )


def _check_gpus(report: NodeReport, asked: Asked) -> Iterator[Diagnosis]:
    wanted = int(asked.variables.get("gpus") or 0)
    torch, subject = report.torch, "node: GPUs"
    if torch is None:
        yield note(
            subject,
            "torch was not loaded when the job's minute was over",
            "a run begins that much later, each time: packages are many small files, on a slow file system",
            "put the virtual environment on a faster file system, or into one file (a container)",
        )
        return
    seen = ", ".join(report.gpus) or report.gpu_problem or "none by nvidia-smi"
    built = f"built for CUDA {torch.cuda}" if torch.cuda else "built without CUDA"
    what = f"torch {torch.version} ({built}) sees {len(torch.devices)}; nvidia-smi: {seen}"
    if torch.problem and not torch.version:
        yield error(subject, torch.problem, "no training can start", "install torch again in this environment")
    elif len(torch.devices) >= max(1, wanted):
        loaded = f"; ready after {torch.seconds:.0f} s"
        yield fine(subject, f"{len(torch.devices)} of {wanted or 'none'} asked for: {', '.join(torch.devices)}{loaded}")
    elif not wanted:
        loaded = f"torch {torch.version} was loaded in {torch.seconds:.0f} s"
        yield fine(subject, f"jobs ask for none, so none was looked for; {loaded}")
    elif asked.profile == LAB:
        given = report.visible if report.visible is not None else "none"
        yield note(
            subject,
            f"{wanted} asked for, given as CUDA_VISIBLE_DEVICES={given}; {what}",
            "a lab's GPUs are pretended: runs train on the cores",
        )
    else:
        yield error(
            subject,
            f"{wanted} asked for, and {what}",
            "a run would be charged for GPUs and train on the cores, or end with an error",
            _remedy(report, torch, wanted),
        )


def _remedy(report: NodeReport, torch: Torch, wanted: int) -> str:
    if torch.cuda is None:
        return "install a build of torch with CUDA (pytorch.org/get-started)"
    if len(report.gpus) < wanted:
        return (
            'the job was given fewer: name a partition with GPUs, or what the site wants (extra_sbatch = ["--gpus=1"])'
        )
    if torch.problem:
        return f"torch says: {torch.problem}; a driver that is too old needs a torch built for an older CUDA"
    return "see that CUDA_VISIBLE_DEVICES is not set in the profile or in ~/.bashrc"


def _check_files(report: NodeReport) -> Iterator[Diagnosis]:
    bad = {path: problem for path, problem in report.paths.items() if problem}
    for path, problem in bad.items():
        yield error(
            "node: files",
            f"{path}: {problem}",
            "a run that needs it ends with an error",
            "move it to a file system that nodes share, or have it mounted on them",
        )
    if not bad:
        yield fine("node: files", f"{len(report.paths)} of {len(report.paths)} are there: {', '.join(report.paths)}")
    free = f"{report.scratch_bytes / 2**30:.1f} GiB free"
    if report.scratch_problem:
        yield error(
            "node: scratch",
            f"{report.scratch} {report.scratch_problem}",
            "several GPUs do not find one another",
            "TMPDIR in ~/.bashrc or the profile: a directory of the node that can be written",
        )
    elif report.scratch_bytes < _SCRATCH_BYTES:
        yield note("node: scratch", f"{report.scratch}: {free}", "torch.compile and teams of GPUs keep files there")
    else:
        yield fine("node: scratch", f"{report.scratch}: {free}")


def _check_slurm(report: NodeReport, asked: Asked) -> Iterator[Diagnosis]:
    if report.knows_itself:
        yield error(
            "node: Slurm",
            report.knows_itself,
            "a job that is told to leave cannot ask why, and does not put itself back in the queue at its time limit",
            f"ask the site for scontrol on its nodes; until then keep {remedies.WATCH(*asked.study.where)} running",
        )
    else:
        yield fine("node: Slurm", "scontrol tells a job of itself: it knows preemption from a time limit")
    if report.submits:
        yield note(
            "node: Slurm",
            f"a job may not submit jobs: {report.submits}",
            "the driver cannot send what comes next; what was submitted goes on",
            f"type: {remedies.DRIVER_INSTALL(*asked.study.where)}",
        )
    else:
        yield fine("node: Slurm", "a job may submit jobs: the driver can go on with the study")
