"""The submission of one job or array: its row and token are durable before sbatch, and all answers are handled."""

import secrets
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lvjobs import remedies
from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.protocol import (
    Cluster,
    ClusterError,
    JobRequest,
    SubmitDeferred,
    SubmitLimited,
    SubmitRefused,
    SubmitUnclear,
)
from lvjobs.control.backends import driver_name
from lvjobs.control.budget.accounts import Account, Amount, Terms
from lvjobs.control.budget.archive import books_of
from lvjobs.control.budget.cost import allowance, newest_checkpoints
from lvjobs.control.budget.gpu_hours import hours
from lvjobs.control.submission.avoided_nodes import note_placed, place, read_avoidance
from lvjobs.control.submission.slots import choices, is_packed, pack_size, waits
from lvjobs.control.submission.submission_files import gpu_allowances, write_submission
from lvjobs.control.submission.time_limits import is_automatic
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Event, RunRecord, SubmissionRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.processes import submitted
from lvjobs.remedies.remedy import Remedy
from lvjobs.study.config import StudyContext
from lvjobs.study.digits import in_digits
from lvjobs.study.layout import StudyLayout
from lvjobs.study.words import RunState, SubmitOutcome


@dataclass(frozen=True)
class SubmitResult:
    """The outcome of a submission; `said` is the reason or a warning, in words.

    `choice` is the index of the choice that the cluster accepted. `shortfall` is the budget's refusal.
    """

    runs: Sequence[RunRecord]
    token: str
    outcome: SubmitOutcome
    job_id: str | None = None
    said: str = ""
    choice: int = 0
    shortfall: "Shortfall | None" = None


@dataclass(frozen=True)
class PreparedJob:
    """A job for runs that share it, or an array of jobs, ready to be submitted.

    `requests` is the same job by each choice of QOS and partition in `choice`, in the order in which they are tried.
    All have one token, because a refused request leaves no job.
    """

    runs: Sequence[RunRecord]
    choice: Sequence[Mapping[str, str]]
    requests: Sequence[JobRequest]


def new_token() -> str:
    """Return a new submission's token: 12 random hex digits."""
    return secrets.token_hex(6)


def prepare_job(study: StudyContext, runs: Sequence[RunRecord], choice: Sequence[Mapping[str, str]]) -> PreparedJob:
    """Return the job for runs of the same profile, resources and code. Nothing is written."""
    token = new_token()
    return PreparedJob(runs, choice, [request_for(study, runs, token, one) for one in choice])


def request_for(
    study: StudyContext, runs: Sequence[RunRecord], token: str, choice: Mapping[str, str] | None = None
) -> JobRequest:
    """Return the request for the job that trains these runs: several runs are an array, or share the job.

    The runs have the same profile, resources and code. `choice` is one of `choices`; None: the first.
    """
    first = runs[0]
    name = first.name if len(runs) == 1 else first.stage
    own = ("max_parallel", "processes", "time_limit", "time_limit_most", "pack", "side_by_side", "activate")
    resources = {key: value for key, value in first.resources.items() if key not in own}
    resources |= choices(first.resources)[0] if choice is None else choice
    environment = {}
    if processes := first.resources.get("processes"):
        environment["LVJOBS_PROCESSES"] = str(processes)
    if activate := first.resources.get("activate"):
        environment["LVJOBS_ACTIVATE"] = str(activate)
    if nodes := first.resources.get("nodes"):
        environment["LVJOBS_NODES"] = str(nodes)
    if study.config.driver.job and backend_of(first.profile).driver_profile:
        environment["LVJOBS_DRIVER"] = driver_name(study)
    if packed := is_packed(runs):
        environment["LVJOBS_PACK"] = " ".join(run.name for run in runs)
        environment["LVJOBS_SIDE_BY_SIDE"] = str(first.resources.get("side_by_side") or 1)
    directories = [study.layout.run(run.name).root for run in runs]
    return JobRequest(
        token=token,
        name=name,
        run_directories=directories[:1] if packed else directories,
        log_directory=study.layout.log_directory(name),
        code_directory=study.layout.code / first.code,
        python=sys.executable,
        resources=resources,
        environment=environment,  # beside the profile's own: see `lvjobs.worker.environment`
        max_parallel=None if packed else first.resources.get("max_parallel"),
    )


@dataclass(frozen=True)
class Shortfall:
    """The budget's refusal of runs: what they need, what is free, and the limits."""

    wanted: Amount
    free: Amount
    terms: Terms

    @property
    def is_of_flops(self) -> bool:
        """Return whether FLOPs are lacking, else only GPU-hours are."""
        return self.wanted.flops > self.free.flops

    def __str__(self) -> str:
        over = self.wanted - self.free
        if self.is_of_flops:
            return (
                f"needs {in_digits(self.wanted.flops)} FLOPs (with a reserve for repeated steps), "
                f"{in_digits(over.flops)} more than the {in_digits(max(0, self.free.flops))} available "
                f"(limit {in_digits(self.terms.limit)})"
            )
        limit = hours(self.terms.gpu_seconds or 0)
        return (
            f"needs {hours(self.wanted.gpu_seconds):.2g} GPU-hours (by time limits, or the time of similar runs), "
            f"{hours(over.gpu_seconds):.2g} more than the {hours(max(0, self.free.gpu_seconds)):.2g} available "
            f"(limit {limit:.4g})"
        )


def reservations_for(
    transaction: Transaction,
    runs: Sequence[RunRecord],
    terms: Terms,
    layout: StudyLayout,
    now: float,
    *,
    renew: bool = True,
) -> tuple[dict[str, WorkCounts], Shortfall | None]:
    """Return the allowance of each run, by its id, and the shortfall if the budget has no room for all; else None.

    Runs of a task that declares no cost have no allowance, unless GPU-hours are limited. Unless `renew`, a run that has
    GPU-hours reserved gets no more of them.
    """
    books = books_of(transaction, terms, layout, now, naming=runs)
    gpu_hours = books.gpu_hours.with_profiles(layout, runs).with_jobs(shared_jobs(runs))
    wanted, extra = {}, Amount()
    steps = newest_checkpoints(transaction.attempts([run.id for run in runs]))
    for run in runs:
        if not run.rates and terms.gpu_seconds is None:
            continue
        account = books.accounts.get(run.id) or Account(run, {})
        work = allowance(run, account.executed, steps[run.id], gpu_hours.ahead(run, steps[run.id]))
        if not renew and (had := (account.reserved or WorkCounts()).gpu_seconds):
            work = replace(work, gpu_seconds=had)
        wanted[run.id] = work
        extra += terms.amount(run, work.beyond(account.executed)) - account.amount_set_aside(terms)
    return wanted, None if not wanted or extra.fits(books.room) else Shortfall(extra, books.room, terms)


def send(
    study: StudyContext,
    ledger: Ledger,
    cluster: Cluster,
    job: PreparedJob,
    terms: Terms,
    now: float,
    later: Sequence[RunRecord] = (),
    declare: Callable[[Transaction], object] | None = None,
) -> SubmitResult:
    """Reserve the FLOPs and GPU-hours of the job's runs, and submit it; do neither if the budget has no room.

    Args:
        study: The study.
        ledger: Its ledger.
        cluster: The cluster that the runs' profile names.
        job: The job. Its runs have no live submissions.
        terms: The prices and the limit of the budget.
        now: The time of submission, in seconds since the epoch.
        later: Runs that come after the job's. Their FLOPs are reserved too, so that they can complete.
        declare: What adds the runs to the ledger, in the same transaction, if they are not in it and the budget has
            room.

    Returns:
        The outcome. Errors of sbatch are outcomes, and are recorded with the runs.
    """
    runs, requests, token = job.runs, job.requests, job.requests[0].token
    backend, packed = backend_of(runs[0].profile).name, is_packed(runs)
    submission = SubmissionRecord(token, runs[0].profile, backend, now, len(runs), packed=packed)
    with ledger.transaction() as transaction:
        renew = study.config.budget.renew
        wanted, shortfall = reservations_for(transaction, [*runs, *later], terms, study.layout, now, renew=renew)
        if shortfall is not None:
            outcome = SubmitOutcome.OVER_BUDGET
            return SubmitResult(runs, token, outcome, said=str(shortfall), shortfall=shortfall)
        requests[0].log_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if declare is not None:
            declare(transaction)
        entries = read_avoidance(transaction).in_force(study.config.policy, now)
        bounded = [run for run in (*runs, *later) if run.id in wanted]
        transaction.reserve({run.id: wanted[run.id] for run in bounded})
        steps = {run.id: wanted[run.id].training for run in bounded if run.rates}
        write_submission(study, token, runs, steps, gpu_allowances(transaction, study, bounded, shared_jobs(runs)))
        transaction.add_submission(submission, [run.id for run in runs])
        transaction.update_runs_of(token, state=RunState.SUBMITTING, reason="", not_before=0.0)
        if is_automatic(runs[0].resources):  # the time limit was computed for this job
            transaction.update_runs({run.id: {"resources": run.resources} for run in runs})
    submitted.set()
    try:
        placed = place(cluster, requests, entries)
    except (SubmitUnclear, SubmitLimited, SubmitDeferred, SubmitRefused) as error:
        return _not_placed(study, ledger, runs, token, now, error)
    submission = replace(submission, job_id=placed.job_id)
    with ledger.transaction() as transaction:
        transaction.update_submission(token, job_id=placed.job_id)
        transaction.update_runs_of(token, state=RunState.QUEUED, reason="")
        interrupted = {run.id: {"state": RunState.INTERRUPTED} for run in runs if run.cause is not None}
        transaction.update_runs(interrupted)
        jobs = [(run.id, submission.job_of(index)) for index, run in enumerate(runs)]
        note_placed(transaction, placed, requests[placed.taken], [job for _, job in jobs if job])
        more = f"; {placed.words}" if placed.words else ""
        transaction.add_events(
            [Event(now, SubmitOutcome.SUBMITTED, f"submitted as job {job}{more}", run_id) for run_id, job in jobs]
        )
    return SubmitResult(
        runs, token, SubmitOutcome.SUBMITTED, job_id=placed.job_id, said=placed.words, choice=placed.taken
    )


def _not_placed(
    study: StudyContext, ledger: Ledger, runs: Sequence[RunRecord], token: str, now: float, error: ClusterError
) -> SubmitResult:
    """Record that sbatch submitted no job, or that nobody knows yet; return what became of the runs."""
    if isinstance(error, SubmitUnclear):
        reason = f"sbatch has not answered yet: {error}"
        with ledger.transaction() as transaction:
            transaction.update_runs_of(token, reason=reason)
            transaction.add_events([Event(now, RunState.SUBMITTING.value, reason, run.id) for run in runs])
        return SubmitResult(runs, token, SubmitOutcome.UNCLEAR, said=str(error))
    study.layout.submission(token).unlink(missing_ok=True)
    if isinstance(error, SubmitLimited):
        reason = waits(str(error))
        _withdraw(ledger, runs, token, now, RunState.PLANNED, reason, is_news=False)
        return SubmitResult((), token, SubmitOutcome.LIMITED, said=reason)
    if isinstance(error, SubmitDeferred):
        _withdraw(ledger, runs, token, now, RunState.PLANNED, f"not submitted yet: {error}")
        return SubmitResult(runs, token, SubmitOutcome.DEFERRED, said=str(error))
    reason = f"refused: {error}; change study.toml's [resources] or the profile, then: "
    _withdraw(ledger, runs, token, now, RunState.HELD, reason, then=remedies.RESUME_RUN)
    return SubmitResult(runs, token, SubmitOutcome.REFUSED, said=str(error))


def _withdraw(
    ledger: Ledger,
    runs: Sequence[RunRecord],
    token: str,
    now: float,
    state: RunState,
    reason: str,
    *,
    is_news: bool = True,
    then: Remedy | None = None,
) -> None:
    """Delete a submission that made no job, and let its runs wait. Equal reasons of later passes add no event.

    `then`: the command for each run, at the end of the reason.
    """
    with ledger.transaction() as transaction:
        transaction.delete_submission(token)
        changes, events = {}, []
        for run in runs:
            waiting = RunState.INTERRUPTED if state is RunState.PLANNED and run.cause is not None else state
            said = reason + (then(run=run.name) if then else "")
            changes[run.id] = {"state": waiting, "reason": said}
            if is_news and said != run.reason:
                events.append(Event(now, waiting.value, said, run.id))
        transaction.update_runs(changes)
        transaction.add_events(events)


def shared_jobs(runs: Sequence[RunRecord]) -> dict[str, int]:
    """Return how many of these runs would share the job of each, by run id, if they are submitted together."""
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[same_job(run)].append(run)
    sizes = {}
    for group in groups.values():
        size = pack_size(group[0])
        for first in range(0, len(group), size):
            job = group[first : first + size]
            sizes.update({run.id: len(job) for run in job})
    return sizes


def same_job(run: RunRecord) -> tuple[str, str, str, str]:
    """Return the key that runs must share to be members of one array: stage, profile, code and resources."""
    computed = ("time_limit_minutes", "time_limit_most") if is_automatic(run.resources) else ()
    resources = {key: value for key, value in run.resources.items() if key not in computed}
    return (run.stage, f"{run.profile} {run.profile_copy}", run.code, repr(sorted(resources.items())))
