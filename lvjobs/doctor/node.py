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
            f"not submitted: {errand.refused}",
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
    yield fine("node: Python", f"{python} at {report.python}, lvjobs {version} with the code that was sent")
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
            "no fault was found: the queue is longer than the timeout",
            f"to wait longer, type: {remedies.DOCTOR_PATIENT(*asked.typed, seconds=longer)}; "
            "a QOS or partition for tests starts sooner, if the site has one",
        )
    printed = f"; it printed: {' / '.join(errand.log.splitlines()[-3:])}" if errand.log else ", and printed nothing"
    state = f" ({errand.ended})" if errand.ended else ""
    return error(
        JOB,
        f"{name} ran{state}, and wrote no report{printed}",
        "a run would fail in the same way: the node cannot start this Python, or does not see this directory",
        "put the study, and the virtual environment, on a file system that nodes share; modules under [resources]",
    )


def _check_gpus(report: NodeReport, asked: Asked) -> Iterator[Diagnosis]:
    wanted = int(asked.variables.get("gpus") or 0)
    torch, subject = report.torch, "node: GPUs"
    if torch is None:
        yield note(
            subject,
            "torch was not loaded within the job's minute",
            "every attempt starts that much later: packages are many small files on a slow file system",
            "put the virtual environment on a faster file system, or use a container",
        )
        return
    seen = ", ".join(report.gpus) or report.gpu_problem or "none by nvidia-smi"
    built = f"built for CUDA {torch.cuda}" if torch.cuda else "built without CUDA"
    what = f"torch {torch.version} ({built}) sees {len(torch.devices)}; nvidia-smi: {seen}"
    if torch.problem and not torch.version:
        yield error(subject, torch.problem, "no training can start", "install torch again in this environment")
    elif len(torch.devices) >= max(1, wanted):
        loaded = f"; ready after {torch.seconds:.0f} s"
        yield fine(subject, f"{len(torch.devices)} of {wanted or 'none'} requested: {', '.join(torch.devices)}{loaded}")
    elif not wanted:
        loaded = f"torch {torch.version} was loaded in {torch.seconds:.0f} s"
        yield fine(subject, f"jobs request none, so it was not checked; {loaded}")
    elif asked.profile == LAB:
        given = report.visible if report.visible is not None else "none"
        yield note(
            subject,
            f"{wanted} requested, given as CUDA_VISIBLE_DEVICES={given}; {what}",
            "a lab's GPUs are simulated: runs train on CPUs",
        )
    else:
        yield error(
            subject,
            f"{wanted} requested, and {what}",
            "a run would be charged for GPUs and train on CPUs, or fail",
            _remedy(report, torch, wanted),
        )


def _remedy(report: NodeReport, torch: Torch, wanted: int) -> str:
    if torch.cuda is None:
        return "install a build of torch with CUDA (pytorch.org/get-started)"
    if len(report.gpus) < wanted:
        return 'the job got fewer: name a partition with GPUs, or the option of the site (extra_sbatch = ["--gpus=1"])'
    if torch.problem:
        return f"torch says: {torch.problem}; an old driver needs a torch built for an older CUDA"
    return "check that neither the profile nor ~/.bashrc sets CUDA_VISIBLE_DEVICES"


def _check_files(report: NodeReport) -> Iterator[Diagnosis]:
    bad = {path: problem for path, problem in report.paths.items() if problem}
    for path, problem in bad.items():
        yield error(
            "node: files",
            f"{path}: {problem}",
            "a run that needs it fails",
            "move it to a file system that nodes share, or have it mounted there",
        )
    if not bad:
        yield fine("node: files", f"{len(report.paths)} of {len(report.paths)} are there: {', '.join(report.paths)}")
    free = f"{report.scratch_bytes / 2**30:.1f} GiB free"
    if report.scratch_problem:
        yield error(
            "node: scratch",
            f"{report.scratch} {report.scratch_problem}",
            "processes on several GPUs cannot connect",
            "TMPDIR in ~/.bashrc or the profile: a directory of the node that can be written",
        )
    elif report.scratch_bytes < _SCRATCH_BYTES:
        yield note("node: scratch", f"{report.scratch}: {free}", "torch.compile and multi-GPU runs keep files there")
    else:
        yield fine("node: scratch", f"{report.scratch}: {free}")


def _check_slurm(report: NodeReport, asked: Asked) -> Iterator[Diagnosis]:
    if report.knows_itself:
        yield error(
            "node: Slurm",
            report.knows_itself,
            "a job that is asked to stop cannot find out why, and does not requeue itself at its time limit",
            f"ask the site for scontrol on its nodes; until then keep {remedies.WATCH(*asked.study.where)} running",
        )
    else:
        yield fine("node: Slurm", "scontrol works in a job: it can distinguish preemption from a time limit")
    if report.submits:
        yield note(
            "node: Slurm",
            f"a job may not submit jobs: {report.submits}",
            "the driver cannot submit the next jobs; submitted jobs continue",
            f"type: {remedies.DRIVER_INSTALL(*asked.study.where)}",
        )
    else:
        yield fine("node: Slurm", "a job may submit jobs: the driver can continue the study")
