"""The checks of Slurm itself: its programs, slurmctld, slurmdbd, its version."""

import re
from collections.abc import Iterator, Sequence

from lvjobs import remedies
from lvjobs.cluster.enquiry import Reply
from lvjobs.doctor.diagnosis import Diagnosis, error, fine, note
from lvjobs.doctor.facts import Facts

_NO_CONFIGURATION = re.compile(r"configuration source|slurm\.conf|fetch config|resolve_ctls", re.IGNORECASE)
_DEPENDENT = "account, partition, QOS, limits and preemption were not looked at"


def check_slurm(facts: Facts, typed: Sequence[str] = (), where: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Yield whether slurmctld answers, and is new enough. `typed`: see `Asked`; `where`: see `StudyContext.where`."""
    missing = [name for name in ("sbatch", "srun", "scontrol", "squeue", "scancel") if name in facts.replies.missing]
    if missing:
        yield error(
            "Slurm",
            f"{', '.join(missing)}: not on PATH",
            f"this is no login node, or Slurm is a module here; {_DEPENDENT}",
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
            "a job that is told to leave cannot ask why, and does not put itself back in the queue at its time limit",
            f"ask the site for a newer Slurm; until then keep {remedies.WATCH(*where)} running",
        )


def _unheard(reply: Reply, typed: Sequence[str]) -> Diagnosis:
    if _NO_CONFIGURATION.search(reply.problem):
        return error(
            "Slurm",
            f"its programs find no cluster: {reply.problem.rpartition('; ')[2]}",
            f"they are installed, and nothing says where slurmctld is; {_DEPENDENT}",
            "log in to the cluster's login node, or export SLURM_CONF; for a cluster of your own, type: "
            f"{remedies.LAB_UP}",
        )
    return error(
        "Slurm",
        f"slurmctld does not answer: {reply.problem or 'it said nothing'}",
        f"jobs that run go on, and nothing can be submitted or looked up meanwhile; {_DEPENDENT}",
        f"wait, then type: {remedies.DOCTOR(*typed)}; if it stays so, tell the site",
    )


def check_accounting(facts: Facts, typed: Sequence[str] = (), where: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Yield whether ended jobs can be looked up. `typed`: see `Asked`; `where`: see `StudyContext.where`."""
    age = facts.config.get("MinJobAge", "").removesuffix("sec").strip()
    if not facts.has_accounting:
        yield note(
            "accounting",
            "the site keeps none (no slurmdbd)",
            f"how a job ended is known for {age or 'a few hundred'} s only, later by the run's own journal alone; "
            "GPU-hours are estimated",
            f"the driver makes passes often; where it cannot run, keep {remedies.WATCH(*where)} running",
        )
    elif problem := facts.replies["history"].problem:
        yield note(
            "accounting",
            f"sacct does not answer: {problem}",
            f"how jobs ended {age or 'a few hundred'} s ago and earlier is not known now; lvjobs takes that for "
            "unknown, never for dead, and looks again",
            f"wait, then type: {remedies.DOCTOR(*typed)}; if it stays so, tell the site that slurmdbd is down",
        )
    else:
        yield fine("accounting", "slurmdbd answers: ended jobs can be looked up, and hours are counted")
