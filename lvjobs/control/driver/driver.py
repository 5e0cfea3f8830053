"""The driver: a tiny job that makes passes while nobody is there. Every pass keeps it, as long as anything is left.

It requeues itself after each pass (slurm_templates/driver.sh.j2), so that its id never changes. A second one stands by:
it has the same name and `--dependency=singleton`, and begins when the first is no more. That two of them do no double
work is not their doing: whoever makes a pass holds the study's lease.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import LOCAL, backend_of
from lvjobs.cluster.protocol import DRIVER, ClusterError, Job, JobRequest, SubmitRefused
from lvjobs.cluster.states import JobHold
from lvjobs.cluster.templates import DRIVER_PROFILE
from lvjobs.control.backends import driver_token, variables_of
from lvjobs.control.session import Session
from lvjobs.control.submission.slots import choices
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.words import HeldFor, StageState

MOST = 2
"""Of a study: the one that drives, and the one that stands by."""

_ASK_AGAIN_SECONDS = 3600.0
"""For so long a site that refused the driver is not asked again, unless it would be asked for something else."""


@dataclass(frozen=True)
class Standing:
    """What the ledger keeps of the driver: whether the user wants none, and how the site refused it, if it did."""

    stopped: bool = False
    refused: str = ""
    refused_at: float = 0.0
    asked: str = ""
    """What it was refused for: other settings are tried at once."""


def standing(transaction: Transaction) -> Standing:
    """What the ledger keeps of the driver."""
    return transaction.row("driver", Standing) or Standing()


def set_standing(transaction: Transaction, value: Standing) -> None:
    """Keep it."""
    transaction.set_rows("driver", [value])


def driven(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs that passes take further: on Slurm, and neither ended nor waiting for somebody's word."""
    return [run for run in runs if not run.state.is_at_rest and backend_of(run.profile) != LOCAL]


def waits_for_flops(transaction: Transaction) -> bool:
    """Whether there is a run or a stage that goes on by itself once the budget has room for it."""
    if any(run.held_for is HeldFor.BUDGET for run in transaction.runs(only_open=True)):
        return True
    return any(stage.state in (StageState.ASKED, StageState.RUNNING) for stage in transaction.stages())


def is_wanted(session: Session) -> bool:
    """Whether the user wants a driver: neither study.toml nor `lvjobs driver stop` says otherwise."""
    with session.ledger.transaction() as transaction:
        return session.study.config.driver.job and not standing(transaction).stopped


@dataclass(frozen=True)
class Change:
    """How many drivers are to be submitted, and which jobs are one too many."""

    submit: int = 0
    cancel: Sequence[str] = ()


def change(jobs: Sequence[Job], *, wanted: bool) -> Change:
    """What makes the driver's jobs what they should be. Pure.

    One that runs is left alone: it may be the process that asks, and ends by itself where nothing is left. One that
    Slurm holds until somebody releases it is replaced: the one that stands by would wait for it in vain.
    """
    live = sorted((job for job in jobs if not job.is_ended), key=lambda job: int(job.id))
    if wanted:
        stuck = [job for job in live if job.is_pending and (job.hold.needs_release or _is_stranded(job, live))]
        good = [job for job in live if job not in stuck]
        surplus = [job for job in good[MOST:] if job.is_pending]
        return Change(max(0, MOST - len(good)), tuple(job.id for job in (*stuck, *surplus)))
    return Change(0, tuple(job.id for job in live if job.is_pending))


def _is_stranded(job: Job, live: Sequence[Job]) -> bool:
    """Return whether the job cannot start in the partition to which the site moved it, away from the standby's.

    The standby waits for it all the same (seen): `singleton` waits for an older job of the name that is pending, too.
    In the standby's own partition a replacement would fare no better, so that one is waited for.
    """
    elsewhere = any(other.hold is JobHold.DEPENDENCY and other.partition != job.partition for other in live)
    return job.hold is JobHold.NO_PLACE and elsewhere


def keep_driver(session: Session, seen: Sequence[Job] | None, *, awaits_flops: bool) -> list[str]:
    """Submit the driver where there is something left and none is there; end it where there is not. In words.

    `seen` are its jobs in the queue, None where this pass did not look. `awaits_flops`: see `Loop`.
    """
    study = session.study
    with session.ledger.transaction() as transaction:
        kept, left = standing(transaction), driven(transaction.runs(only_open=True))
        if awaits_flops and not left:
            left = [run for run in transaction.runs() if backend_of(run.profile) != LOCAL][-1:]
    wanted = bool(left) and study.config.driver.job and not kept.stopped
    if wanted and session.absence(DRIVER_PROFILE):
        return []
    request = driver_request(study, asked_by(study, left[0])) if wanted else None
    if request is not None and _is_refused(kept, request, session.clock()):
        return []
    if seen is None:
        seen = look(session) if wanted else ()
    if seen is None:
        return []
    todo = change(seen, wanted=wanted)
    told = []
    if todo.cancel:
        cluster = session.cluster(DRIVER_PROFILE)
        for job_id in todo.cancel:
            try:
                cluster.cancel(job_id)
            except ClusterError:  # noqa: PERF203 - a few, each a process of its own
                break  # it ends by itself: the next time it finds nothing to do
    for _ in range(todo.submit if request is not None else 0):
        assert request is not None
        made, words = _submit(session, request)
        told += words
        if made is None:
            break
    return told[:1] if todo.submit == MOST else []  # of the one that stands by nobody needs to hear


def look(session: Session) -> Sequence[Job] | None:
    """The driver's jobs in the queue; None where the scheduler does not say."""
    cluster = session.cluster(DRIVER_PROFILE)
    return cluster.observe((), session.clock(), (driver_token(session.study.root),)).queue


def end_driver(session: Session) -> None:
    """Cancel it, also while it runs: it waits for what is due, or for the lease that this session holds.

    Raises:
        ClusterError: the scheduler did not answer.
    """
    for job in look(session) or ():
        if not job.is_ended:
            session.cluster(DRIVER_PROFILE).cancel(job.id)


def end_former_driver(session: Session, root: str) -> None:
    """Cancel the drivers of a root that the study has left: they look for it there. One that Slurm starts ends."""
    if StudyLayout(Path(root)).database.exists():
        return  # another study lives there now, and they are its own
    cluster = session.cluster(DRIVER_PROFILE)
    for job in cluster.observe((), session.clock(), (driver_token(Path(root)),)).queue or ():
        if not job.is_ended:
            with suppress(ClusterError):  # its script ends it where it finds no study
                cluster.cancel(job.id)


def _submit(session: Session, request: JobRequest) -> tuple[str | None, list[str]]:
    """The job's id, None where there is none for now, and what is to be said."""
    request.log_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        job_id = session.cluster(DRIVER_PROFILE).submit(request)
    except SubmitRefused as error:
        return None, _note_refusal(session, request, str(error))
    except ClusterError:
        return None, []  # no room, or no answer: the next pass looks again
    text = f"driver: submitted as job {job_id}; it goes on with the study while nobody is there"
    with session.ledger.transaction() as transaction:
        transaction.add_event(Event(session.clock(), "driver", text))
    return job_id, [text]


def _refusal(said: str, where: Sequence[str] = ()) -> str:
    return (
        f"no driver job, for the site refuses it: {said}; until [driver] in study.toml names where it may run, passes "
        f"are made by lvjobs commands alone: keep {remedies.WATCH(*where)} running (docs/driver.md)"
    )


def _note_refusal(session: Session, request: JobRequest, said: str) -> list[str]:
    with session.ledger.transaction() as transaction:
        kept = standing(transaction)
        set_standing(transaction, Standing(kept.stopped, said, session.clock(), _key(request)))
        if kept.refused != said:
            transaction.add_event(Event(session.clock(), "driver", _refusal(said)))
    return [_refusal(said, session.study.where)]


def _is_refused(kept: Standing, request: JobRequest, now: float) -> bool:
    return kept.asked == _key(request) and 0 <= now - kept.refused_at < _ASK_AGAIN_SECONDS


def _key(request: JobRequest) -> str:
    return json.dumps(request.resources, sort_keys=True)


def driver_request(study: StudyContext, asked: Mapping[str, Any]) -> JobRequest:
    """Return the submission of the driver of runs that ask for this (see `resources`)."""
    return JobRequest(
        token=driver_token(study.root),
        name=DRIVER,
        run_directories=[study.root],
        log_directory=study.layout.log_directory(DRIVER),
        code_directory=study.layout.code,
        python=sys.executable,
        resources=resources(study, asked),
    )


def asked_by(study: StudyContext, run: RunRecord) -> Mapping[str, Any]:
    """Return the profile's variables as the first of the run's submissions has them."""
    return {**variables_of(study.layout, run), **choices(run.resources)[0]}


def resources(study: StudyContext, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the driver asks for: what [driver] says, else the place and account of runs that ask for `asked`."""
    own = study.config.driver.variables()
    elsewhere = "partition" in own
    names = ("account", "modules") if elsewhere else ("partition", "account", "qos", "modules")
    return {**{name: asked[name] for name in names if asked.get(name)}, **own}


def set_stopped(session: Session, *, stopped: bool) -> None:
    """Whether the user wants no driver; what the site said before is forgotten."""
    with session.ledger.transaction() as transaction:
        set_standing(transaction, Standing(stopped=stopped))
