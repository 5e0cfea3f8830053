"""The checks, and their order."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from lvjobs import remedies
from lvjobs.cluster.backends import LOCAL, SLURM
from lvjobs.cluster.crontab import find_entries
from lvjobs.cluster.enquiry import SECONDS, Ask, Replies, enquire
from lvjobs.cluster.profiles import Profile, load_profile
from lvjobs.cluster.protocol import ClusterError, ClusterSilent, JobRequest
from lvjobs.cluster.slurm import SlurmCluster
from lvjobs.control.backends import driver_name, driver_profile
from lvjobs.control.submission.slots import choices
from lvjobs.doctor import permission, places, room, scheduler
from lvjobs.doctor.container import check_container
from lvjobs.doctor.interface import Asked, Diagnosis, Facts, error, note, understand
from lvjobs.doctor.profile import SUBJECT, check_profile
from lvjobs.doctor.software import check_versions
from lvjobs.errors import UsageError


def has_slurm() -> bool:
    """Return whether Slurm's programs are here."""
    return shutil.which("scontrol") is not None


def usual_profile() -> str:
    """Return the profile for a machine if the user names none."""
    return (SLURM if has_slurm() else LOCAL).usual_profile


def examine(asked: Asked, *, with_job: bool = False) -> Iterator[Diagnosis]:
    """Yield all findings except a job's own. `with_job`: a test job will follow."""
    yield from places.check_study(asked)
    try:
        asked.variables  # noqa: B018 - whether there is such a profile
    except UsageError as wrong:
        usual, what = usual_profile(), str(wrong).removeprefix("profile: ")
        yield error(SUBJECT, what, f"submit refuses it; the checks below use profile {usual}")
        asked = replace(asked, profile=usual)
    else:
        yield from check_profile(asked)
    yield from check_versions(asked)
    if asked.is_local:
        yield from places.check_local(asked)
        if has_slurm():
            yield note(
                "Slurm",
                "Slurm is installed but profile = local, so it was not checked",
                "on a login node the site may kill the processes of profile local",
                f"to check it, type: {remedies.DOCTOR_SLURM(*asked.study.where)}",
            )
    else:
        yield from check_site(understand(ask_site(asked), asked), asked, with_job=with_job)
    yield from places.check_storage(asked)
    yield from places.check_python(asked, with_job=with_job)
    yield from check_container(asked)
    yield from places.check_model(asked)
    yield from places.check_cache(asked)
    yield from places.check_data(asked)
    yield from places.check_budget(asked)


def check_site(facts: Facts, asked: Asked, *, with_job: bool = False) -> Iterator[Diagnosis]:
    """Yield all findings about Slurm. Pure, except for the user's identity."""
    yield from scheduler.check_slurm(facts, asked.typed, asked.study.where)
    if not facts.is_heard:
        return
    yield from scheduler.check_accounting(facts, asked.typed, asked.study.where)
    about_the_job = [
        finding
        for check in (
            permission.check_account,
            permission.check_partition,
            permission.check_qos,
            room.check_size,
            room.check_time,
        )
        for finding in check(facts, asked)
    ]
    yield from about_the_job
    # sbatch would only repeat an error that is known
    is_refused = any(finding.level == "error" for finding in about_the_job)
    yield from room.check_submission(facts, asked, is_refused=is_refused)
    yield from room.check_queue(facts)
    yield from scheduler.check_preemption(facts, asked)
    yield from scheduler.check_requeue(facts)
    yield from scheduler.check_driver(facts, asked, is_refused=is_refused, with_job=with_job)


def ask_site(asked: Asked, seconds: float = SECONDS) -> Replies:
    """Ask Slurm all questions in parallel, so that an unresponsive one costs `seconds` only once."""
    if not has_slurm():
        return enquire({}, seconds)
    script = asked.script
    assert script is not None
    samples = [asked.sample(choice) for choice in choices(asked.variables)]
    more: dict[str, Ask] = {
        room.TEST: partial(_test, script, samples, seconds),
        scheduler.CRON: lambda: " ".join(find_entries(driver_name(asked.study), seconds)),
    }
    if asked.study.config.driver.job:
        more[scheduler.DRIVER] = partial(_test, load_profile(driver_profile(asked.study)), [asked.driver()], seconds)
    return enquire(more, seconds)


def _test(script: Profile, requests: Sequence[JobRequest], seconds: float) -> str:
    """Return the start that sbatch expects for the first of these requests that it accepts.

    Raises:
        ClusterError: it accepts none.
        ClusterSilent: it did not answer.
    """
    refusals = []
    for request in requests:
        cluster = SlurmCluster(script, request.run_directories[0], timeout=seconds)
        try:
            return str(cluster.estimate_start(request))
        except ClusterSilent:
            raise
        except (ClusterError, UsageError) as error:
            refusals.append(str(error))
    raise ClusterError("; ".join(dict.fromkeys(refusals)))
