"""The driver: a small job that makes passes while no command runs. Every pass keeps it alive while runs are open.

The job requeues itself after each pass (slurm_templates/driver.sh.j2), so that its id never changes. A second job is
on standby: it has the same name and `--dependency=singleton`, and begins when the first one is gone. The study's
lease keeps them from making passes at the same time.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.protocol import DRIVER, ClusterError, Job, JobRequest, SubmitRefused
from lvjobs.cluster.states import JobHold
from lvjobs.control.backends import driver_profile, driver_token, variables_of
from lvjobs.control.session import Session
from lvjobs.control.submission.slots import choices
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.words import HeldFor, StageState

MOST = 2
"""The most driver jobs of a study: the active one, and the standby."""

_ASK_AGAIN_SECONDS = 3600.0
"""The time before a refused driver is submitted again. A driver with other settings is submitted at once."""


@dataclass(frozen=True)
class Standing:
    """The ledger's row of the driver: whether the user stopped it, and how and when the site refused it, if it did."""

    stopped: bool = False
    refused: str = ""
    refused_at: float = 0.0
    asked: str = ""
    """The settings with which it was refused (JSON). Other settings are tried at once."""


def standing(transaction: Transaction) -> Standing:
    """Return the ledger's row of the driver."""
    return transaction.row("driver", Standing) or Standing()


def driven(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs that need the driver: its backend has one, and they neither ended nor wait for the user."""
    return [run for run in runs if not run.state.is_at_rest and backend_of(run.profile).driver_profile]


def waits_for_flops(transaction: Transaction) -> bool:
    """Return whether a run or a stage continues by itself once the budget has room for it."""
    if any(run.held_for is HeldFor.BUDGET for run in transaction.runs(only_open=True)):
        return True
    return any(stage.state in (StageState.ASKED, StageState.RUNNING) for stage in transaction.stages())


def is_wanted(session: Session) -> bool:
    """Return whether the user wants a driver: neither study.toml nor `lvjobs driver stop` turned it off."""
    return session.study.config.driver.job and not session.ledger.call(standing).stopped


def change(jobs: Sequence[Job], *, wanted: bool) -> tuple[int, list[str]]:
    """Return how many driver jobs to submit, and the ids of those to cancel. Pure.

    A running job is left alone: it may be the calling process, and it ends by itself when nothing is left to do. A job
    that Slurm holds until it is released by hand is replaced: the standby would wait for it forever.
    """
    live = sorted((job for job in jobs if not job.is_ended), key=lambda job: int(job.id))
    if wanted:
        stuck = [job for job in live if job.is_pending and (job.hold.needs_release or _is_stranded(job, live))]
        good = [job for job in live if job not in stuck]
        surplus = [job for job in good[MOST:] if job.is_pending]
        return max(0, MOST - len(good)), [job.id for job in (*stuck, *surplus)]
    return 0, [job.id for job in live if job.is_pending]


def _is_stranded(job: Job, live: Sequence[Job]) -> bool:
    """Return whether the job cannot start in the partition to which the site moved it, away from the standby's.

    The standby still waits for it (observed): `singleton` also waits for an older pending job of the same name. A job
    in the standby's own partition is not stranded, because a replacement could not start there either.
    """
    elsewhere = any(other.hold is JobHold.DEPENDENCY and other.partition != job.partition for other in live)
    return job.hold is JobHold.NO_PLACE and elsewhere


def keep_driver(session: Session, seen: Sequence[Job] | None, *, awaits_flops: bool) -> list[str]:
    """Submit the driver's jobs if runs are left and jobs are missing; cancel pending ones if none is needed.

    Return the lines that the pass reports. `seen` are the driver's jobs in the queue, None if this pass did not look.
    `awaits_flops`: see `Loop`.
    """
    study = session.study
    with session.ledger.transaction() as transaction:
        kept, left = standing(transaction), driven(transaction.runs(only_open=True))
        if awaits_flops and not left:
            left = [run for run in transaction.runs() if backend_of(run.profile).driver_profile][-1:]
    wanted = bool(left) and study.config.driver.job and not kept.stopped
    if wanted and session.absence(driver_profile(study)):
        return []
    request = driver_request(study, requested_by(study, left[0])) if wanted else None
    since_refusal = session.clock() - kept.refused_at
    if request is not None and kept.asked == _key(request) and 0 <= since_refusal < _ASK_AGAIN_SECONDS:
        return []
    if seen is None and wanted:
        seen = find_jobs(session)
        if seen is None:
            return []
    missing, unwanted = change(seen or (), wanted=wanted)
    lines = []
    with suppress(ClusterError):  # a job that is not cancelled ends by itself when it finds nothing to do
        for job_id in unwanted:
            session.cluster(driver_profile(study)).cancel(job_id)
    for each in [request] * missing if request is not None else []:
        made, words = _submit(session, each)
        lines += words
        if made is None:
            break
    return lines[:1] if missing == MOST else []  # the standby is not reported


def find_jobs(session: Session, root: Path | None = None) -> Sequence[Job] | None:
    """Return the jobs in the queue of the driver of `root` (None: the study); None if the scheduler does not answer."""
    token = driver_token(session.study.root if root is None else root)
    return session.cluster(driver_profile(session.study)).observe((), session.clock(), (token,)).queue


def end_driver(session: Session, root: Path | None = None) -> None:
    """Cancel the jobs of the driver of `root` (None: the study), running ones too.

    They only wait, for the next pass or for this session's lease.

    Raises:
        ClusterError: the scheduler did not answer.
    """
    for job in find_jobs(session, root) or ():
        if not job.is_ended:
            session.cluster(driver_profile(session.study)).cancel(job.id)


def end_former_driver(session: Session, root: str) -> None:
    """Cancel the drivers of a directory that the study was moved from: they look for the study there."""
    if StudyLayout(Path(root)).database.exists():
        return  # another study is there now, and the drivers belong to it
    with suppress(ClusterError):  # a job that is not cancelled ends by itself: its script finds no study
        end_driver(session, Path(root))


def _submit(session: Session, request: JobRequest) -> tuple[str | None, list[str]]:
    """Submit the driver. Return the job's id, None if there is no job for now, and the lines to report."""
    request.log_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        job_id = session.cluster(driver_profile(session.study)).submit(request)
    except SubmitRefused as error:
        with session.ledger.transaction() as transaction:
            kept = standing(transaction)
            refusal = Standing(kept.stopped, str(error), session.clock(), _key(request))
            transaction.set_rows("driver", [refusal])
            if kept.refused != str(error):
                transaction.add_event(Event(session.clock(), "driver", _refusal(str(error))))
        return None, [_refusal(str(error), session.study.where)]
    except ClusterError:
        return None, []  # no room, or no answer: the next pass tries again
    text = f"driver: submitted as job {job_id}; it keeps the study going"
    session.ledger.call(Transaction.add_event, Event(session.clock(), "driver", text))
    return job_id, [text]


def _refusal(said: str, where: Sequence[str] = ()) -> str:
    return (
        f"no driver job, because the site refused it: {said}; until [driver] in study.toml names a partition that "
        f"allows it, "
        f"only lvjobs commands update the study: keep {remedies.WATCH(*where)} running (docs/driver.md)"
    )


def _key(request: JobRequest) -> str:
    return json.dumps(request.resources, sort_keys=True)


def driver_request(study: StudyContext, asked: Mapping[str, Any]) -> JobRequest:
    """Return the job request for the driver of runs that ask for the variables `asked` (see `resources`)."""
    return JobRequest(
        token=driver_token(study.root),
        name=DRIVER,
        run_directories=[study.root],
        log_directory=study.layout.log_directory(DRIVER),
        code_directory=study.layout.code,
        python=sys.executable,
        resources=resources(study, asked),
    )


def requested_by(study: StudyContext, run: RunRecord) -> Mapping[str, Any]:
    """Return the profile's variables as the run's jobs have them, with the first of its choices of place."""
    return {**variables_of(study.layout, run), **choices(run.resources)[0]}


def resources(study: StudyContext, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the driver's resources: [driver] of study.toml, else the place and account of the runs' `asked`.

    If [driver] names a partition, only the account and the modules are taken from `asked`.
    """
    own = study.config.driver.variables()
    elsewhere = "partition" in own
    names = ("account", "modules") if elsewhere else ("partition", "account", "qos", "modules")
    return {**{name: asked[name] for name in names if asked.get(name)}, **own}


def set_stopped(session: Session, *, stopped: bool) -> None:
    """Record whether the user stopped the driver, and forget any earlier refusal by the site."""
    with session.ledger.transaction() as transaction:
        transaction.set_rows("driver", [Standing(stopped=stopped)])
