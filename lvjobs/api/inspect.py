"""One run explained: why it stands as it does, what happened to it, what its job waits for, what it printed."""

from pathlib import Path

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.results import Explanation, History, WaitingJobs, read_row
from lvjobs.errors import UsageError
from lvjobs.records.summary import RunStatus
from lvjobs.study.config import StudyContext


def explain(study: StudyContext, typed: str) -> Explanation:
    """Return why a run stands as it does. `typed` is its name, enough of it, or its id.

    Raises:
        UsageError: No run is meant, or several may be.
    """
    from lvjobs.control.inspect.why import why
    from lvjobs.control.summary import find_row

    with updates.reconciled(study, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
        row = find_row(status.summary, typed, study.where)
        return Explanation(read_row(RunStatus, row), why(session, row), status)


def history(study: StudyContext, typed: str) -> History:
    """Return what happened to a run, the oldest first. See `explain` for `typed` and errors."""
    from lvjobs.control.inspect.history import story
    from lvjobs.control.summary import find_row

    with updates.reconciled(study, wait=updates.READ_WAIT_SECONDS) as (session, status):
        row = find_row(status.summary, typed, study.where)
        with session.ledger.transaction() as transaction:
            run = transaction.find_run(id=row["id"])
            attempts, events = transaction.attempts([row["id"]]), transaction.events(row["id"], limit=100_000)
    assert run is not None
    return History(read_row(RunStatus, row), story(run, attempts, events), status)


def waiting_jobs(study: StudyContext, typed: str | None) -> WaitingJobs:
    """Return the runs whose jobs wait (or that of one run), and what would start the first sooner.

    Raises:
        UsageError: No run is meant, or several may be; or its job does not wait.
    """
    from lvjobs.control.inspect.sooner import find_sooner, waiting_rows

    with updates.reconciled(study, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
        waiting = waiting_rows(status.summary, [typed] if typed else [], study.where)
        answers = find_sooner(session, waiting[0]) if waiting else []
    return WaitingJobs([read_row(RunStatus, row) for row in waiting], answers, status)


def newest_log(study: StudyContext, typed: str) -> Path:
    """Return the file that a run's latest job prints to, by the last update's summary.

    Raises:
        UsageError: No run is meant, several may be, or no job of it printed anything yet.
    """
    from lvjobs.control.inspect.logs import newest_log as find_log
    from lvjobs.control.summary import find_row
    from lvjobs.control.summary_file import read_summary

    row = find_row(read_summary(study.layout.summary) or {"runs": []}, typed, study.where)
    found = find_log(study, row)
    if found is None:
        why = remedies.WHY(*study.where, run=row["name"])
        raise UsageError(f"{row['name']} has no log yet (it is {row['state']}); type: {why}")
    return found
