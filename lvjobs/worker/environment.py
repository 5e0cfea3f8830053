"""The contract with the batch script (or the local backend): the variables that it sets, and the worker's exit codes.

LVJOBS_BACKEND       slurm | local (unset: started by hand, which is local)
LVJOBS_TOKEN         the submission's token
LVJOBS_JOB_ID        local only; on Slurm the id is SLURM_ARRAY_JOB_ID_SLURM_ARRAY_TASK_ID or SLURM_JOB_ID
LVJOBS_END_TIME      when the job will be ended, seconds since the epoch (else SLURM_JOB_END_TIME)
LVJOBS_LEAD_SECONDS  how long before that the run stops by itself (default 90)
LVJOBS_PREEMPT_MODE  cancel | requeue: what the site does to a preempted job, to be used instead of asking Slurm
LVJOBS_CANCEL_FILE   local only: a file whose existence means that the job was cancelled
LVJOBS_PROCESSES     how many processes of a node train together, one per GPU where there are GPUs (default 1)
LVJOBS_NODES         how many nodes the job has (default 1); SLURM_NODEID is this process's place among them
LVJOBS_EXECUTION     with several nodes: a text that all processes of this execution of the job share, and no other has
LVJOBS_ACTIVATE      activates the environment of a program (`lvjobs.tasks.activation`)
LVJOBS_DRIVER        the name of the study's driver, which is triggered when the run ends or stops (docs/driver.md)
LVJOBS_PACK          the names of all runs that share the job, separated by blanks: directories beside RUN_DIRECTORY
LVJOBS_SIDE_BY_SIDE  how many of them are trained at once (default 1)
LVJOBS_PACKED        set for each of their workers, which must not act for the job as a whole
LVJOBS_LOOK          set for a test job of `lvjobs doctor`, which trains nothing (see lvjobs.worker.node_probe)
SLURM_RESTART_COUNT  unset in a job's first execution
SLURMD_NODENAME      Slurm's name of the node, which may differ from its host name
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import RunRefused

DONE = 0
"""An exit code: done, or nothing to do. The other exit codes follow."""

ERROR = 1

EXITED_EARLY = 75
"""Stopped early, to be continued (EX_TEMPFAIL)."""

WANTS_REQUEUE = 76
"""Stopped early in a shared job: the job should be requeued once all of its runs have stopped."""

INTERRUPTED = 130

DEFAULT_LEAD = 90.0
PACK = "LVJOBS_PACK"
PACKED = "LVJOBS_PACKED"
PROBE = "LVJOBS_LOOK"
_REMEDY = "set it in the profile's script, or leave it out"


@dataclass(frozen=True)
class JobEnvironment:
    """The job that this process belongs to, its settings, and its start and end (seconds since the epoch)."""

    backend: str
    token: str
    job_id: str
    restart_count: int = 0
    start_time: float | None = None
    end_time: float | None = None
    lead_seconds: float = DEFAULT_LEAD
    preempt_mode: str | None = None
    cancel_file: Path | None = None
    processes: int = 1
    nodes: int = 1
    node_rank: int = 0
    execution: str = ""
    driver: str = ""
    pack: Sequence[str] = ()
    side_by_side: int = 1
    packed: bool = False
    node: str = ""
    is_probe: bool = False
    activate: str = ""

    @property
    def on_slurm(self) -> bool:
        """Return whether the process runs under Slurm."""
        return self.backend == "slurm"

    @property
    def team(self) -> int:
        """Return how many processes train together, on all nodes."""
        return self.processes * self.nodes

    @property
    def has_job(self) -> bool:
        """Return whether the run has a Slurm job of its own, so that a request to Slurm affects no other run."""
        return self.on_slurm and not self.packed


def _seconds(environ: Mapping[str, str], key: str) -> float | None:
    text = environ.get(key, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise RunRefused(f"{key}={text!r} in the job's environment is not a number of seconds; {_REMEDY}") from None


def _count(environ: Mapping[str, str], key: str, what: str, least: int = 1) -> int:
    text = environ.get(key) or str(least)
    if not text.isdecimal() or int(text) < least:
        raise RunRefused(f"{key}={text!r} in the job's environment is not a number of {what}; {_REMEDY}")
    return int(text)


def _slurm_job_id(environ: Mapping[str, str]) -> str:
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job_id = f"{array}_{task}" if array and task else environ.get("SLURM_JOB_ID", "")
    if not job_id:
        raise RunRefused(
            "LVJOBS_BACKEND=slurm, but there is no SLURM_JOB_ID, and the worker runs inside a Slurm job only; submit "
            f"the run: {remedies.SUBMIT_TRAIN}"
        )
    return job_id


def read_environment(environ: Mapping[str, str]) -> JobEnvironment:
    """Return the job's environment, parsed. Raises RunRefused if a variable is invalid or there is no Slurm job id."""
    backend = environ.get("LVJOBS_BACKEND") or "local"
    if backend not in ("slurm", "local"):
        raise RunRefused(f"LVJOBS_BACKEND={backend!r} is neither slurm nor local; {_REMEDY}")
    on_slurm = backend == "slurm"
    # SLURM_* variables may be set around a local process, as in an interactive job. They do not describe it.
    of_slurm = environ if on_slurm else {}
    lead, end = _seconds(environ, "LVJOBS_LEAD_SECONDS"), _seconds(environ, "LVJOBS_END_TIME")
    nodes, execution = _count(of_slurm, "LVJOBS_NODES", "nodes"), of_slurm.get("LVJOBS_EXECUTION", "")
    if nodes > 1 and not execution:
        raise RunRefused(
            f"LVJOBS_NODES={nodes}, but the profile's script sets no LVJOBS_EXECUTION, so it is for one node; include "
            "_worker.sh.j2 there, or leave nodes out of [resources]"
        )
    cancel_file = "" if on_slurm else environ.get("LVJOBS_CANCEL_FILE", "")
    return JobEnvironment(
        backend=backend,
        token=environ.get("LVJOBS_TOKEN", ""),
        job_id=_slurm_job_id(environ) if on_slurm else environ.get("LVJOBS_JOB_ID") or f"local.{os.getpid()}",
        restart_count=_count(of_slurm, "SLURM_RESTART_COUNT", "requeues", least=0),
        start_time=_seconds(of_slurm, "SLURM_JOB_START_TIME"),
        end_time=_seconds(of_slurm, "SLURM_JOB_END_TIME") if end is None else end,
        lead_seconds=DEFAULT_LEAD if lead is None else lead,
        preempt_mode=of_slurm.get("LVJOBS_PREEMPT_MODE", "").lower() or None,
        cancel_file=Path(cancel_file) if cancel_file else None,
        processes=_count(environ, "LVJOBS_PROCESSES", "processes"),
        nodes=nodes,
        node_rank=_count(of_slurm, "SLURM_NODEID", "a node", least=0) if nodes > 1 else 0,
        execution=execution,
        driver=of_slurm.get("LVJOBS_DRIVER", ""),
        pack=environ.get(PACK, "").split(),
        side_by_side=_count(environ, "LVJOBS_SIDE_BY_SIDE", "runs"),
        packed=bool(environ.get(PACKED)),
        node=of_slurm.get("SLURMD_NODENAME", ""),
        is_probe=bool(environ.get(PROBE)),
        activate=environ.get("LVJOBS_ACTIVATE", ""),
    )
