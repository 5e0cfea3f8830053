"""Submit: the row with its token is durable before sbatch, and every answer that sbatch can give is provided for."""

import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from lvjobs.cluster.protocol import Cluster, JobRequest, SubmitDeferred, SubmitRefused, SubmitUnclear
from lvjobs.control.accounts import Terms, keep_books
from lvjobs.control.clusters import backend_of
from lvjobs.control.cost import allowance
from lvjobs.files import write_atomic, write_json
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Event, Reservation, Run, Submission, Work
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.allowance import Allowance
from lvjobs.study.config import Study
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.study.words import RunState


@dataclass(frozen=True)
class Sent:
    """How a submission went. `outcome`: submitted, deferred, unclear, refused or over_budget; `said` is why."""

    runs: Sequence[Run]
    token: str
    outcome: str
    job_id: str | None = None
    said: str = ""


def request_for(study: Study, runs: Sequence[Run], token: str) -> JobRequest:
    """The job (an array where there are several runs) that would train these runs: same profile, resources, code."""
    first = runs[0]
    name = first.name if len(runs) == 1 else first.stage
    own = ("max_parallel", "processes")
    resources = {key: value for key, value in first.resources.items() if key not in own}
    processes = first.resources.get("processes")
    return JobRequest(
        token=token,
        name=name,
        run_directories=[study.layout.run(run.name).root for run in runs],
        log_directory=study.layout.log_directory(name),
        code_directory=study.layout.code / first.code,
        python=sys.executable,
        resources=resources,
        environment={"LVJOBS_PROCESSES": str(processes)} if processes else {},
        max_parallel=first.resources.get("max_parallel"),
    )


def new_token() -> str:
    """12 hex digits that no other submission carries."""
    return secrets.token_hex(6)


def prepare(study: Study, runs: Sequence[Run]) -> None:
    """Make the run directories: run.json and empty places for what a worker leaves. Harmless when done twice."""
    for run in runs:
        files = study.layout.run(run.name)
        for directory in (files.root, files.generations, files.journals, files.steps, files.revoked):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = RunConfig.model_validate(run.config)
        content = RunFile(id=run.id, name=run.name, stage=run.stage, fingerprint=run.fingerprint, config=config)
        # Only what was declared: its code, which reads this, knows no key that is newer.
        write_json(files.config, content.model_dump(mode="json", exclude_unset=True))


@dataclass(frozen=True)
class Shortfall:
    """Runs that the budget does not allow: FLOPs wanted for them, and free."""

    wanted: int
    free: int
    limit: int

    def __str__(self) -> str:
        over = self.wanted - self.free
        return (
            f"{self.wanted:.4g} FLOPs are wanted (with a checkpoint interval of replay for each run), and "
            f"{self.free:.4g} of the limit of {self.limit:.4g} are free: {over:.4g} too many"
        )


def reservations_for(
    transaction: Transaction, runs: Sequence[Run], terms: Terms
) -> tuple[dict[str, Work], Shortfall | None]:
    """What each run would be allowed in all, and by how much that is more than the budget has, if it is.

    Runs of a task that declares no cost have none.
    """
    books = keep_books(terms, transaction.runs(), transaction.charges(), transaction.reservations())
    wanted, extra = {}, 0
    for run in runs:
        if not run.rates:
            continue
        attempts = transaction.attempts([run.id])
        step = max((attempt.checkpoint_step for attempt in attempts), default=0)
        account = books.accounts.get(run.id)
        executed = account.executed if account else Work()
        wanted[run.id] = allowance(run, executed, step)
        extra += terms.price(run, wanted[run.id].beyond(executed)) - (account.set_aside(terms) if account else 0)
    return wanted, Shortfall(extra, books.free, terms.limit) if wanted and extra > books.free else None


def allow(study: Study, run: Run, work: Work) -> None:
    """Tell the run's workers how much they may execute."""
    path = study.layout.run(run.name).allowance
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, Allowance(training=work.training).to_json())


def send(
    study: Study,
    ledger: Ledger,
    cluster: Cluster,
    runs: Sequence[Run],
    terms: Terms,
    now: float,
    later: Sequence[Run] = (),
) -> Sent:
    """Reserve what `runs` may spend, and submit them as one job or array; or neither, where that is too much.

    All have the same profile, resources and code, and none a live submission. `later` ones come after them: for these
    it is reserved as well, so that what was begun can be ended.
    """
    token = new_token()
    request = request_for(study, runs, token)
    request.log_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    submission = Submission(token, runs[0].profile, backend_of(runs[0].profile), now, len(runs))
    with ledger.transaction() as transaction:
        wanted, shortfall = reservations_for(transaction, [*runs, *later], terms)
        if shortfall is not None:
            return Sent(runs, token, "over_budget", said=str(shortfall))
        for run in (*runs, *later):
            if run.id in wanted:
                transaction.reserve(Reservation(run.id, wanted[run.id]))
                allow(study, run, wanted[run.id])  # before sbatch: no job of it begins unbounded
        transaction.add_submission(submission, [run.id for run in runs])
        for run in runs:
            transaction.update_run(run.id, state=RunState.SUBMITTING, reason="", not_before=0.0)
    try:
        job_id = cluster.submit(request)
    except SubmitUnclear as error:
        _record(ledger, runs, RunState.SUBMITTING, f"no answer to sbatch yet: {error}", now)
        return Sent(runs, token, "unclear", said=str(error))
    except SubmitDeferred as error:
        _withdraw(ledger, runs, token, now, RunState.PLANNED, f"not submitted yet: {error}")
        return Sent(runs, token, "deferred", said=str(error))
    except SubmitRefused as error:
        reason = f"refused: {error}; change study.toml's [resources] or the profile, then: lvjobs resume {runs[0].name}"
        _withdraw(ledger, runs, token, now, RunState.HELD, reason)
        return Sent(runs, token, "refused", said=str(error))
    submission = replace(submission, job_id=job_id)
    with ledger.transaction() as transaction:
        transaction.update_submission(token, job_id=job_id)
        for index, run in enumerate(runs):
            state = RunState.QUEUED if run.cause is None else RunState.INTERRUPTED
            transaction.update_run(run.id, state=state, reason="")
            transaction.add_event(Event(now, "submitted", f"submitted as job {submission.job_of(index)}", run.id))
    return Sent(runs, token, "submitted", job_id=job_id)


def _record(ledger: Ledger, runs: Sequence[Run], state: RunState, reason: str, now: float) -> None:
    with ledger.transaction() as transaction:
        for run in runs:
            transaction.update_run(run.id, state=state, reason=reason)
            transaction.add_event(Event(now, state.value, reason, run.id))


def _withdraw(ledger: Ledger, runs: Sequence[Run], token: str, now: float, state: RunState, reason: str) -> None:
    """No job exists: the submission never was, and the runs wait. Told once, however many passes try in vain."""
    with ledger.transaction() as transaction:
        transaction.delete_submission(token)
        for run in runs:
            waiting = RunState.INTERRUPTED if state is RunState.PLANNED and run.cause is not None else state
            transaction.update_run(run.id, state=waiting, reason=reason)
            if reason != run.reason:
                transaction.add_event(Event(now, waiting.value, reason, run.id))


def discard(study: Study, ledger: Ledger, runs: Sequence[Run]) -> None:
    """Undo runs whose very first submission was refused: nothing half-made stays behind."""
    with ledger.transaction() as transaction:
        for run in runs:
            transaction.delete_run(run.id)
    clear(study, runs)
    with suppress(OSError):  # other jobs' logs may be there
        request_for(study, runs, "").log_directory.rmdir()


def clear(study: Study, runs: Sequence[Run]) -> None:
    """Remove the directories that `prepare` made, save those that were there before and hold a worker's checkpoints."""
    for run in runs:
        files = study.layout.run(run.name)
        if not is_claimed(files):
            shutil.rmtree(files.root, ignore_errors=True)


def is_claimed(files: RunLayout) -> bool:
    """Whether a worker has ever claimed the run directory."""
    return any(files.generations.glob("*"))


def same_job(run: Run) -> tuple[str, str, str, str]:
    """What runs must have in common to be members of one array."""
    return (run.stage, run.profile, run.code, repr(sorted(run.resources.items())))
