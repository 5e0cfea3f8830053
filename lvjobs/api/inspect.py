"""Questions about one run: the reason for its state, its history, its job's wait in the queue, and its log."""

from pathlib import Path

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.results import Explanation, History, WaitingJobs
from lvjobs.errors import UsageError
from lvjobs.records.summary import RunStatus, read_row
from lvjobs.study.config import StudyContext


def explain(study: StudyContext, typed: str) -> Explanation:
    """Return the reason for a run's state. `typed` is its name, enough of its name, or its id.

    Raises:
        UsageError: No run matches, or several do.
    """
    from lvjobs.control.inspect.why import why
    from lvjobs.control.summary import find_row

    with updates.reconciled(study, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
        row = find_row(status.summary, typed, study.where)
        return Explanation(read_row(RunStatus, row), why(session, row), status)


def history(study: StudyContext, typed: str) -> History:
    """Return a run's history, oldest first. See `explain` for `typed` and errors."""
    from lvjobs.control.inspect.history import moments_of
    from lvjobs.control.summary import find_row

    with updates.reconciled(study, wait=updates.READ_WAIT_SECONDS) as (session, status):
        row = find_row(status.summary, typed, study.where)
        with session.ledger.transaction() as transaction:
            run = transaction.find_run(id=row["id"])
            attempts, events = transaction.attempts([row["id"]]), transaction.events(row["id"], limit=100_000)
    assert run is not None
    return History(read_row(RunStatus, row), moments_of(run, attempts, events), status)


def waiting_jobs(study: StudyContext, typed: str | None) -> WaitingJobs:
    """Return the runs whose jobs wait (or the one named), and requests that would start the first of them sooner.

    Raises:
        UsageError: No run matches, or several do; or the run's job does not wait; or the scheduler does not answer.
    """
    from lvjobs.control.inspect.alternatives import find_alternatives, waiting_rows

    with updates.reconciled(study, wait=updates.WRITE_WAIT_SECONDS) as (session, status):
        waiting = waiting_rows(status.summary, typed, study.where)
        answers = find_alternatives(session, waiting[0]) if waiting else []
    return WaitingJobs([read_row(RunStatus, row) for row in waiting], answers, status)


def newest_log(study: StudyContext, typed: str) -> Path:
    """Return the log file of a run's latest job, by the last update's summary.

    Raises:
        UsageError: No run matches, several do, or no job of the run has a log yet.
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
