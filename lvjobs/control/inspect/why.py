"""`lvjobs why`: a run's state and its cause, with evidence; what lvjobs does about it; commands for the user."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs.cluster.protocol import ClusterError
from lvjobs.control.budget.intervals import duration
from lvjobs.control.inspect.alternatives import find_alternatives
from lvjobs.control.inspect.logs import last_lines, newest_log
from lvjobs.control.inspect.next_steps import commands, limit_of, next_steps
from lvjobs.control.inspect.tracebacks import own_frames
from lvjobs.control.reconcile.policy import leniency
from lvjobs.control.session import Session
from lvjobs.errors import UsageError
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.records.software import drift_of, record_of
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, HeldFor, RunState
from lvjobs.tasks.code_copies import drift, find_tasks
from lvjobs.tasks.origin import first_lines
from lvjobs.tasks.registry import program_files

_LOG_LINES = 8
_FILES = 3
_ATTEMPTS = 3
"""The number of latest attempts whose software is compared."""
_DONE = 3
"""The number of latest actions of lvjobs after the last failure that are shown."""


@dataclass(frozen=True)
class Why:
    """An answer that fits one screen.

    `evidence` are pairs of a label and its text, `remedies` pairs of a command and its purpose. `then` is what happens
    next. `log` is the file whose last lines are `printed`. `place` is the job's place in the queue.
    """

    headline: str
    evidence: Sequence[tuple[str, str]] = ()
    then: Sequence[str] = ()
    remedies: Sequence[tuple[str, str]] = ()
    traceback: Sequence[str] = ()
    log: str = ""
    printed: Sequence[str] = ()
    place: str = ""
    alternatives: Sequence[Mapping[str, Any]] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (docs/json.md)."""
        return {
            "headline": self.headline,
            "evidence": [{"what": what, "said": said} for what, said in self.evidence],
            "then": list(self.then),
            "remedies": [{"type": typed, "why": why} for typed, why in self.remedies],
            "traceback": list(self.traceback),
            "log": self.log or None,
            "printed": list(self.printed),
            "place": self.place or None,
            "alternatives": [dict(each) for each in self.alternatives],
        }


def why(session: Session, row: Mapping[str, Any]) -> Why:
    """Return the answer for a run, given its `row` in the summary of a pass that has just been made."""
    with session.ledger.transaction() as transaction:
        run = transaction.find_run(id=row["id"])
        attempts = transaction.attempts([row["id"]])
        events = transaction.events(row["id"], limit=1000)
        later = [
            each for each in transaction.runs() if each.after == row["id"] and each.state is not RunState.CANCELLED
        ]
    assert run is not None
    now = session.clock()
    failed = _last_failure(attempts)
    # The jobs' output explains no preemption, no timeout and no cancellation.
    may_explain = failed is not None and failed.cause not in (Cause.PREEMPTED, Cause.CANCELLED, Cause.TIMEOUT)
    log = newest_log(session.study, row) if may_explain and run.state is not RunState.COMPLETED else None
    since = failed.ended if failed is not None and failed.ended else run.created
    noted = [("done", event.text) for event in events if event.time >= since and event.kind == "cluster"]
    traceback = own_frames(failed.traceback, session.study.layout.code / run.code) if failed is not None else []
    printed = last_lines(log, _LOG_LINES) if log else []
    if traceback and traceback[-1] in printed:  # the log ends with lines that are shown already
        printed = printed[len(printed) - printed[::-1].index(traceback[-1]) :]
    if failed is not None and failed.error:
        printed = [line for line in printed if failed.error not in line]
    place, alternatives = _in_the_queue(session, run, row)
    return Why(
        headline=headline(run, row, attempts, now),
        evidence=[
            *_evidence(run, attempts, session.study.config.policy, traceback),
            *noted[-_DONE:],
            *_of_the_software(session, run, attempts),
            *_of_the_code(session, run),
        ],
        then=list(next_steps(run, row, attempts, session.study.where)),
        remedies=list(commands(run, row, failed, later, session.study.where, has_log=log is not None)),
        traceback=traceback,
        log=str(log) if log else "",
        printed=printed,
        place=place,
        alternatives=alternatives,
    )


def _last_failure(attempts: Sequence[AttemptRecord]) -> AttemptRecord | None:
    """Return the last attempt that ended without completing the run; None if there is none."""
    ended = [attempt for attempt in attempts if attempt.cause not in (None, Cause.COMPLETED)]
    return ended[-1] if ended else None


# -- the state --------------------------------------------------------------------------------------------------------


def headline(run: RunRecord, row: Mapping[str, Any], attempts: Sequence[AttemptRecord], now: float) -> str:
    """Return one sentence on the run's state. `row` is the run's in the summary, `now` in seconds since the epoch."""
    last = attempts[-1] if attempts else None
    job = f"job {row['job_id']}" if row["job_id"] else "its job"
    if run.state is RunState.COMPLETED:
        tries = "one attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
        return f"completed at step {row['step']} after {tries}"
    if run.state is RunState.RUNNING:
        if last is None or last.cause is not None:
            return f"{job} is running; {run.reason or 'its worker has not started yet'}"
        since = duration(max(0.0, now - last.started))
        left = f", {duration(row['seconds_left'])} left" if row.get("seconds_left") else ""
        which = f"attempt {len(attempts)}, {job}"
        now_so = f"; {run.reason}" if run.reason else ""
        return f"running on {last.host} for {since} ({which}), step {row['step']} of {run.steps}{left}{now_so}"
    if run.state is RunState.SUBMITTING:
        return "submitted; Slurm has not confirmed the job yet"
    if row.get("queue_reason") is not None:
        return f"{_interrupted(run)}queued as {job}: {run.reason or 'Slurm gives no reason yet'}"
    words = {
        RunState.HELD: "held, waiting for " + (limit_of(run)[0] if run.held_for is HeldFor.BUDGET else "you"),
        RunState.PAUSED: f"{'stopped' if run.held_for is HeldFor.RUNG else 'paused'} at its last checkpoint",
        RunState.CANCELLED: "cancelled",
        RunState.PLANNED: "planned, not submitted yet",
        RunState.INTERRUPTED: f"{_interrupted(run)}waiting to resume",
        RunState.QUEUED: f"queued as {job}",
    }[run.state]
    return words + (f": {run.reason}" if run.reason else "")


def _interrupted(run: RunRecord) -> str:
    """Return the beginning of a sentence on a run. One that continues from a rung was not interrupted."""
    cause = run.cause if run.state is RunState.INTERRUPTED else None
    return f"interrupted ({cause.value}), " if cause else ""


def _evidence(
    run: RunRecord, attempts: Sequence[AttemptRecord], policy: Policy, traceback: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield what is known of the last failure, and its cost, as pairs of a label and its text.

    The error itself is left out where the `traceback` that follows ends with it.
    """
    failed = _last_failure(attempts)
    if failed is not None:
        number = attempts.index(failed) + 1
        where = f" on {failed.host}" if failed.host else ""
        error = "" if failed.evidence in traceback[-1:] else f": {failed.evidence}"
        yield f"attempt {number}", f"{failed.cause.value if failed.cause else ''}{where}, job {failed.job_id}{error}"
        if failed.ended:
            yield "when", time.strftime("%a %d %b %H:%M:%S", time.localtime(failed.ended))
        if failed.has_started:
            lost = max(0, failed.step - failed.checkpoint_step)
            again = "; no steps will repeat"
            if lost:
                again = f"; {lost} {'step' if lost == 1 else 'steps'} will repeat"
            yield (
                "last step",
                f"failed at step {failed.step}, last checkpoint {failed.checkpoint_step}"
                + ("" if run.state.is_final else again),
            )
        if words := leniency(run, [each for each in attempts if each.cause is not None], policy):
            yield "retries", words
    if run.state in (RunState.PLANNED, RunState.INTERRUPTED) and run.not_before:
        yield "not before", time.strftime("%a %d %b %H:%M:%S", time.localtime(run.not_before))


def _of_the_software(session: Session, run: RunRecord, attempts: Sequence[AttemptRecord]) -> Iterator[tuple[str, str]]:
    """Yield where the latest attempts ran with other packages, or other code, than the attempts before them."""
    files = session.study.layout.run(run.name)
    for attempt in attempts[-_ATTEMPTS:]:
        if attempt.generation is not None:
            record = record_of(first_lines(files.journal(attempt.generation)))
            yield from (("software", line) for line in drift_of(attempt.generation, record or {}))


def _of_the_code(session: Session, run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield a note if the code has been edited since the run was submitted."""
    if run.state.is_final:
        return
    find_tasks(session.study.root, [run.config["task"]])
    files = drift(
        session.study.layout.code, run.code, run.config["task"], program_files(run.config, session.study.root)
    )
    if files:
        files.sort(key=lambda file: file.startswith("lvjobs/"))  # the user's own first
        shown = ", ".join(files[:_FILES]) + (f" and {len(files) - _FILES} more" if len(files) > _FILES else "")
        kept = "the run keeps using the submitted code until it is resumed"
        yield "code", f"edited since the run was submitted ({shown}); {kept}"


def _in_the_queue(session: Session, run: RunRecord, row: Mapping[str, Any]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Return a waiting job's place in the queue, as text, and what would start sooner; empty if no job waits."""
    if row.get("queue_reason") is None:
        return "", ()
    try:
        place = session.cluster_of(run).place(row["job_id"])
        words = place.words if place is not None else ""
    except (ClusterError, UsageError) as error:
        words = str(error)
    try:
        return words, [answer.to_dict() for answer in find_alternatives(session, row)]
    except UsageError as error:
        return words or str(error), ()
