"""A check that a limit of GPU-hours can count what a job requests: its GPUs, and its time limit."""

import re

from lvjobs.cluster.protocol import Cluster, JobRequest
from lvjobs.control.budget.gpu_hours import GpuHours
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord
from lvjobs.study.layout import StudyLayout

_GPU_OPTION = re.compile(r"^#SBATCH\s+(?:.*\s)?(--gres[=\s]\S*gpu\S*|--gpus\S*|-G\s*\S+)", re.MULTILINE)


def check_gpu_requests(
    cluster: Cluster, request: JobRequest, run: RunRecord, limit: int | None, layout: StudyLayout
) -> None:
    """Refuse a job whose GPU-hours cannot be known before it starts, where they are limited.

    Args:
        cluster: The cluster that would get the job.
        request: The job.
        run: One of its runs.
        limit: The limit, in GPU-seconds; None: there is none.
        layout: The study's.

    Raises:
        UsageError: the script requests GPUs in another way than by `gpus`, or the job has no time limit.
    """
    if limit is None:
        return
    hours = GpuHours(limit).with_profiles(layout, [run])
    gpus, found = hours.gpus(run), _GPU_OPTION.findall(cluster.script(request))
    if len(found) > bool(gpus):
        raise UsageError(
            f"the job's script requests GPUs by {found[-1]}, which a limit of GPU-hours cannot count; nothing was "
            f"submitted: request them by gpus under [resources], and in a profile of your own by {{{{ gpus }}}}"
        )
    if gpus and hours.time_limit(run) is None:
        raise UsageError(
            f"profile {run.profile} sets no time limit, so that the GPU-hours of a job have no bound; nothing was "
            "submitted: set time_limit under [resources] (--time-limit at the prompt)"
        )
