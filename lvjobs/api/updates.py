"""Reconcile passes on behalf of a caller, and the summary of the last pass."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lvjobs import remedies
from lvjobs.api.results import Status
from lvjobs.api.settings import Overrides, carried_settings
from lvjobs.api.waiting import announced
from lvjobs.cluster.commands import patience
from lvjobs.control.summary_file import read_summary
from lvjobs.errors import LvjobsError, Unwritable, UsageError
from lvjobs.ledger.lease import LeaseTaken
from lvjobs.study.config import StudyContext

if TYPE_CHECKING:
    from lvjobs.control.loop import Loop
    from lvjobs.control.recovery.place import StudyOrigin

READ_WAIT_SECONDS = 2.0
"""The longest wait of a caller that only reads, for another process to end its update."""
_SLURM_WAIT, _SLURM_WAIT_SECONDS = "LVJOBS_SLURM_WAIT", 2.5
"""The variable with the longest wait of a caller that only reads, for all of Slurm's commands together; its default."""
_SLURM_SECONDS, _SBATCH_SECONDS = 20.0, 32.0
"""The longest wait of a caller that changes something, for Slurm's commands together, and for one submission."""
WRITE_WAIT_SECONDS = 60.0
"""The longest wait of a caller that changes something."""

Act = Callable[["Loop"], Sequence[str]]
"""An action before a reconcile pass. It returns the changes that it made, a line each."""


def open_session(
    study: StudyContext, *, wait: float = WRITE_WAIT_SECONDS, answer: "StudyOrigin | None" = None
) -> AbstractContextManager["Loop"]:
    """Open the study's session. See `lvjobs.control.loop.open_session`, which is loaded when it is used."""
    from lvjobs.control import loop

    return loop.open_session(study, wait=wait, answer=answer)


@contextmanager
def reconciled(study: StudyContext, *, wait: float, hurry: bool = False) -> Iterator[tuple["Loop", Status]]:
    """Reconcile, and yield the session with the status. The lease is held until the block ends.

    Args:
        study: The study.
        wait: The longest wait for the lease, in seconds.
        hurry: Wait for Slurm for $LVJOBS_SLURM_WAIT seconds at most (default: 2.5). If it does not answer, the status
            has the time of its last answer.

    Raises:
        LeaseTaken: Another process kept the lease for longer.
        PlaceUnclear: The study was moved or copied, and the user has to answer which.
        UsageError: The study directory cannot be written.
    """
    bound = _bounded(wait, _slurm_wait()) if hurry else nullcontext()  # a pass of `watch` may take its time
    with bound, open_session(study, wait=wait) as session:
        yield session, Status(session.make_pass())


@contextmanager
def looked(study: StudyContext) -> Iterator[tuple["Loop", Status]]:
    """Reconcile for a caller that only reads, and yield the session with the status.

    If that is not possible within 5 s, yield a session on a copy of the ledger, which must not make passes, with the
    status of the last update. Its `stale` has the reason.

    Raises:
        LvjobsError: No update is possible, and none was ever made.
    """
    from lvjobs.control.recovery.place import PlaceUnclear

    with ExitStack() as stack:
        try:
            found = stack.enter_context(reconciled(study, wait=READ_WAIT_SECONDS, hurry=True))
        except (LeaseTaken, PlaceUnclear, Unwritable) as error:
            found = stack.enter_context(_last_known(study, error))
        yield found


@contextmanager
def _last_known(study: StudyContext, error: LvjobsError) -> Iterator[tuple["Loop", Status]]:
    """Yield a session on a copy of the ledger. Raises `error`, the reason, if there is none that can be read."""
    from lvjobs.control.loop import Loop
    from lvjobs.ledger.read_only import open_copy
    from lvjobs.ledger.schema import LedgerError

    status = last_status(study, error)
    with ExitStack() as stack:
        try:
            ledger = stack.enter_context(open_copy(study.layout.database, study.where))
        except LedgerError:
            raise error from None
        with patience(_slurm_wait()):
            yield Loop(study, ledger), status


def last_status(study: StudyContext, reason: LvjobsError) -> Status:
    """Return the last update's status, with the reason why none was made now. Raises `reason` if there is none."""
    summary = read_summary(study.layout.summary, study.where)
    if summary is None:
        raise reason
    return Status(summary | {"stale": str(reason), "age_seconds": time.time() - summary["time"]})


@contextmanager
def _bounded(wait: float, slurm: float, submission: float = 0.0) -> Iterator[None]:
    """Bound the wait for Slurm's commands, all together, and announce how long all may take, in seconds.

    `wait` is for the lease, `slurm` for the commands, and `submission` for one sbatch, which has its own bound.
    """
    with announced("Slurm", wait + slurm + submission), patience(slurm):
        yield


def _slurm_wait() -> float:
    """Return the seconds for which a caller that only reads waits for Slurm."""
    text = os.environ.get(_SLURM_WAIT) or str(_SLURM_WAIT_SECONDS)
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"${_SLURM_WAIT} = {text!r} is not a number; write seconds, such as 10") from None


def update(study: StudyContext, act: Act = lambda _: (), *, hurry: bool = False) -> Status:
    """Run an action, reconcile, and return the study's status, which lists the action's changes first.

    `hurry`: see `reconciled`.

    Raises:
        UsageError: `act` refused; or see `reconciled` for this and other errors.
    """
    with updating(study, hurry=hurry) as session:
        done = act(session)
        summary = session.make_pass()
    return Status(summary | {"did": [*done, *summary["did"]]})


@contextmanager
def updating(study: StudyContext, *, hurry: bool = False) -> Iterator["Loop"]:
    """Open the study's session for a change, with the wait for Slurm bounded and announced. See `reconciled`."""
    slurm = _slurm_wait() if hurry else max(_SLURM_SECONDS, _slurm_wait())
    with _bounded(WRITE_WAIT_SECONDS, slurm, _SBATCH_SECONDS), open_session(study) as session:
        yield session


def answer_place(study: StudyContext, answer: "StudyOrigin") -> tuple[Status, bool]:
    """Answer whether the study was moved or copied; return the status, and whether the study's place had changed."""
    with open_session(study, answer=answer) as session:
        was_open = bool(session.arrival.news)
        return Status(session.make_pass()), was_open


def resume(
    study: StudyContext,
    runs: Sequence[str],
    given: Overrides,
    agree: Callable[[Sequence[str]], bool] | None = None,
    *,
    cancelled: bool = False,
) -> Status:
    """Resume held and paused runs with the current code and settings, and reconcile. Without runs, only reconcile.

    Args:
        study: The study.
        runs: Names of runs.
        given: Settings that override study.toml.
        agree: If a run would continue with other packages than it had, called with a line for each such run; returns
            whether to resume them. None: refuse.
        cancelled: Also submit cancelled runs again.

    Raises:
        PackagesChanged: A run would continue with other packages. Nothing was changed.
        UsageError: A run does not exist, a setting cannot change, or settings are given without runs. Nothing was
            changed.
    """
    from lvjobs.control.reconcile.run_commands import PackagesChanged, resume_runs

    typed = carried_settings(study, given)
    if typed and not runs:
        example = remedies.RESUME_SETTINGS(*study.where)
        raise UsageError(f"settings are for runs that are resumed: name them, as in {example}")

    def act(accept: bool) -> Act:
        options = {"accept_packages": accept, "cancelled": cancelled}
        return lambda session: resume_runs(session, runs, typed, study.where, **options) if runs else ()

    try:
        return update(study, act(accept=False))
    except PackagesChanged as error:  # the lease is free while the user decides
        if agree is None or not agree(error.lines):
            raise
    return update(study, act(accept=True))


def wait_until_rest(
    study: StudyContext,
    names: Collection[str] | None,
    every: float,
    on_update: Callable[[Status], None] = lambda _: None,
    timeout: float = float("inf"),
) -> Status:
    """Reconcile every `every` seconds until the named runs (None: all) have ended, or are held or paused.

    Args:
        study: The study.
        names: Names of runs; None for all.
        every: Seconds between updates.
        on_update: Called with the status after each pass.
        timeout: Seconds after which to give up.

    Raises:
        TimeoutError: The runs were not at rest in time. They continue.
    """
    give_up = time.monotonic() + timeout
    while True:
        with reconciled(study, wait=float("inf")) as (session, status):
            pass
        on_update(status)
        if status.is_at_rest(names) and (names is not None or not session.awaits_flops):
            return status
        left = give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{study.root}: some runs were still active after {timeout:g} s; they continue")
        time.sleep(min(every, left))


def logs_of(study: StudyContext, typed: str) -> dict[int, Path]:
    """Return the logs of a run's attempts by the attempt's number, by the last update's summary.

    Raises:
        UsageError: No run matches, or several do.
    """
    from lvjobs.api.select import name_of
    from lvjobs.control.inspect.logs import all_logs
    from lvjobs.control.summary import find_row

    row = find_row(read_summary(study.layout.summary) or {"runs": []}, name_of(study, typed), study.where)
    return all_logs(study, row)


def newest_log(study: StudyContext, typed: str) -> Path:
    """Return the log file of a run's latest job, by the last update's summary.

    Raises:
        UsageError: No run matches, several do, or no job of the run has a log yet.
    """
    from lvjobs.api.select import name_of
    from lvjobs.control.inspect.logs import newest_log as find_log
    from lvjobs.control.session import refuse_archived
    from lvjobs.control.summary import find_row

    typed = name_of(study, typed)
    row = find_row(read_summary(study.layout.summary) or {"runs": []}, typed, study.where)
    found = find_log(study, row)
    if found is None:
        refuse_archived(study, row["name"])
        why = remedies.WHY(*study.where, run=row["name"])
        raise UsageError(f"{row['name']} has no log yet (it is {row['state']}); type: {why}")
    return found
