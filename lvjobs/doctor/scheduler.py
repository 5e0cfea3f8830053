"""The checks of Slurm: its programs and accounting, its treatment of jobs, and what keeps the study going. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence

from lvjobs import remedies
from lvjobs.cluster.enquiry import Reply
from lvjobs.cluster.sites import parse_minutes, parse_number
from lvjobs.doctor.interface import Asked, Diagnosis, Facts, error, fine, note

_NO_CONFIGURATION = re.compile(r"configuration source|slurm\.conf|fetch config|resolve_ctls", re.IGNORECASE)
_DEPENDENT = "account, partition, QOS, limits and preemption were not checked"


def check_slurm(facts: Facts, typed: Sequence[str] = (), where: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Yield whether slurmctld answers, and is new enough. `typed`: see `Asked`; `where`: see `StudyContext.where`."""
    missing = [name for name in ("sbatch", "srun", "scontrol", "squeue", "scancel") if name in facts.replies.missing]
    if missing:
        yield error(
            "Slurm",
            f"{', '.join(missing)}: not on PATH",
            f"this is not a login node, or Slurm is a module here; {_DEPENDENT}",
            'log in where sinfo works, or load the module that brings Slurm; or set profile = "local" in study.toml',
        )
        return
    if not facts.is_heard:
        yield _unheard(facts.replies["config"], typed)
        return
    version = facts.config.get("SLURM_VERSION", "of unknown version")
    host = facts.config.get("SlurmctldHost[0]", "").partition("(")[0]
    yield fine(
        "Slurm", f"slurmctld of cluster {facts.cluster} answers: Slurm {version}" + (f", on {host}" if host else "")
    )
    if facts.replies["help"].text and "--json" not in facts.replies["help"].text:
        yield error(
            "Slurm",
            f"Slurm {version} is too old: its scontrol has no --json",
            "a job that is asked to stop cannot find out why, and does not requeue itself at its time limit",
            f"ask the site for a newer Slurm; until then keep {remedies.WATCH(*where)} running",
        )


def _unheard(reply: Reply, typed: Sequence[str]) -> Diagnosis:
    if _NO_CONFIGURATION.search(reply.problem):
        return error(
            "Slurm",
            f"its programs find no cluster: {reply.problem.rpartition('; ')[2]}",
            f"Slurm is installed, but nothing says where slurmctld is; {_DEPENDENT}",
            "log in to the cluster's login node, or export SLURM_CONF; for a cluster of your own, type: "
            f"{remedies.LAB_UP}",
        )
    return error(
        "Slurm",
        f"slurmctld does not answer: {reply.problem or 'no answer'}",
        f"running jobs continue, but nothing can be submitted or looked up; {_DEPENDENT}",
        f"wait, then type: {remedies.DOCTOR(*typed)}; if that does not help, contact the site",
    )


def check_accounting(facts: Facts, typed: Sequence[str] = (), where: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Yield whether ended jobs can be looked up. `typed`: see `Asked`; `where`: see `StudyContext.where`."""
    age = facts.config.get("MinJobAge", "").removesuffix("sec").strip()
    if not facts.has_accounting:
        yield note(
            "accounting",
            "the site has none (no slurmdbd)",
            f"how a job ended is known for {age or 'a few hundred'} s only, later only from the run's journal; "
            f"GPU-hours are estimated",
            f"the driver updates the study often; where it cannot run, keep {remedies.WATCH(*where)} running",
        )
    elif problem := facts.replies["history"].problem:
        yield note(
            "accounting",
            f"sacct does not answer: {problem}",
            f"how jobs ended {age or 'a few hundred'} s ago and earlier is unknown now; lvjobs treats such jobs as "
            f"unknown and checks again",
            f"wait, then type: {remedies.DOCTOR(*typed)}; if that does not help, report to the site that slurmdbd is "
            f"down",
        )
    else:
        yield fine("accounting", "slurmdbd answers: ended jobs can be looked up and hours counted")


DRIVER = "driver"
"""The key of the reply whether sbatch would accept the study's driver."""

CRON = "cron"
"""The key of the reply which of crontab and scrontab make passes over the study."""

_CLUSTER = ("", "cluster", "off", "n/a")


def check_preemption(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield what happens to a job that is preempted."""
    every = asked.checkpoint_every
    kind = facts.config.get("PreemptType", "preempt/none").removeprefix("preempt/")
    if kind == "none":
        yield fine(
            "preemption",
            "jobs are not preempted here (PreemptType=preempt/none)",
            "a job ends at its time limit or when its node fails; the run continues from its last checkpoint",
        )
        return
    for name in facts.partitions_for(asked.variables):
        if name in facts.partitions:
            mode, grace = _manner(facts, asked, name, kind)
            yield _promise(name, mode, grace, every, asked.study.where)


def _manner(facts: Facts, asked: Asked, partition: str, kind: str) -> tuple[str, int]:
    """Return the mode (`requeue`, `cancel`, ..., `off`) and the grace in seconds for a job of this partition."""
    fields: Mapping[str, str] = facts.partitions[partition]
    whole = facts.config.get("PreemptMode", "OFF").lower()
    mode, grace = fields.get("PreemptMode", "").lower() or whole, parse_number(fields.get("GraceTime")) or 0
    if kind == "qos":
        names = facts.qos_for(asked.variables)
        row = facts.qos.get(names[0], {}) if names else {}
        own = row.get("PreemptMode", "").lower()
        mode = whole if own in _CLUSTER else own
        grace = max(grace, round(60 * (parse_minutes(row.get("GraceTime", "")) or 0)))
    return mode, grace


def _promise(name: str, mode: str, grace: int, every: int, where: Sequence[str]) -> Diagnosis:
    saved = (
        f"it has {grace} s to finish its step and write a checkpoint"
        if grace
        else f"it is killed at once and repeats the steps since its last checkpoint, at most {every}"
    )
    words = set(mode.replace("gang", "").strip(",").split(","))
    if "requeue" in words:
        return fine(
            "preemption",
            f"{name} requeues a preempted job (PreemptMode=REQUEUE, GraceTime={grace})",
            f"{saved}; it is back in the queue at once, and the run's result does not change",
        )
    if "cancel" in words:
        means = f"{saved}, and requeues itself, or lvjobs submits it again: the run continues"
        remedy = (
            ""
            if grace
            else f"let the driver run, or keep {remedies.WATCH(*where)} running: only an update resubmits a killed job"
        )
        return (fine if grace else note)(
            "preemption", f"{name} cancels a preempted job (PreemptMode=CANCEL, GraceTime={grace})", means, remedy
        )
    if "suspend" in words:
        return note(
            "preemption",
            f"{name} suspends a preempted job (PreemptMode={mode.upper()})",
            "it is stopped in memory and continues later; lvjobs was not tested with that, and may treat it as hung",
            "hung_seconds under [policy] in study.toml: longer than jobs stay suspended",
        )
    return fine(
        "preemption",
        f"jobs of {name} are not preempted (PreemptMode=OFF)",
        "a job ends at its time limit or when its node fails; the run continues from its last checkpoint",
    )


def check_requeue(facts: Facts) -> Iterator[Diagnosis]:
    """Yield whether jobs can be requeued, and how often."""
    hold, most = facts.promises.requeue_hold_seconds or 0, facts.config.get("MaxBatchRequeue", "")
    if facts.config.get("JobRequeue") == "0":
        yield fine(
            "requeue",
            "JobRequeue=0: jobs are requeued only if their script has --requeue",
            "lvjobs' profiles have it; your own profile needs it too",
        )
        return
    means = "lvjobs lifts that hold"
    means += f"; a job that was preempted {most} times is held permanently, and lvjobs submits another" if most else ""
    yield fine("requeue", f"a requeued job keeps its id; Slurm holds it for {hold:.0f} s", means)


def check_driver(
    facts: Facts, asked: Asked, *, is_refused: bool = False, with_job: bool = False
) -> Iterator[Diagnosis]:
    """Yield whether jobs may submit jobs, and what makes passes otherwise. `is_refused`: the study's jobs are too."""
    if programs := facts.replies.said.get(CRON, Reply()).text.split():
        yield fine(
            "driver",
            f"{' and '.join(programs)} updates the study",
            "each update submits, resumes and selects runs",
            f"to remove it, type: {remedies.DRIVER_UNINSTALL(*asked.study.where)}",
        )
        return
    offers = facts.offers_scrontab
    scrontab = f"type: {remedies.DRIVER_INSTALL_SCRONTAB(*asked.study.where)}"
    other = scrontab if offers else f"type: {remedies.DRIVER_INSTALL(*asked.study.where)}"
    if not asked.study.config.driver.job:
        yield note(
            "driver", "[driver] job = false: no job updates the study", "nothing happens until a command is run", other
        )
        return
    names = facts.partitions_for(asked.driver().resources)
    closed = {
        name: nodes
        for name in names
        if (nodes := facts.partitions.get(name, {}).get("AllocNodes", "ALL")) not in ("ALL", "(null)")
    }
    for name, nodes in closed.items():
        yield note(
            "driver",
            f"partition {name} accepts jobs from {nodes} only (AllocNodes)",
            "a job may not submit jobs, unless it runs there: the driver cannot submit the next jobs",
            other,
        )
    reply = facts.replies.said.get(DRIVER)
    if reply is not None and reply.problem and is_refused:
        return
    if reply is not None and reply.problem and not reply.is_silent:
        yield note(
            "driver",
            f"sbatch would refuse the driver, a job of one core without a GPU: {reply.problem}",
            "nothing happens until a command is run",
            f"name a partition, account or QOS for it under [driver] in study.toml (docs/driver.md); else {other}",
        )
    elif not closed:
        where = ",".join(names) or "the site's default partition"
        means = "it submits, resumes and selects runs unattended" + (
            "" if reply is None or reply.is_silent else "; sbatch accepts it"
        )
        tried = (
            ""
            if with_job
            else f"only a job can show whether a node may submit jobs; type: {remedies.DOCTOR_JOB(*asked.typed)}"
        )
        yield fine(
            "driver",
            f"a small job updates the study, on {where}{'; scrontab is also available' if offers else ''}",
            means,
            tried,
        )
