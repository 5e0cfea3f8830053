"""Act: write what was decided in one transaction, then touch the cluster. Each step may be repeated after a crash."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lvjobs.cluster.protocol import Cluster, ClusterError, Load
from lvjobs.cluster.templates import ProfileError
from lvjobs.control.backends import profile_of
from lvjobs.control.budget.accounts import Terms
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.actions import (
    Action,
    Adopt,
    AvoidNode,
    CancelJob,
    Extend,
    GiveBack,
    LiftHold,
    MarkMissing,
    RecordEvent,
    Release,
    Reserve,
    Revoke,
    SaveAttempt,
    SetRun,
    Settle,
    Submit,
)
from lvjobs.control.submission.avoided_nodes import avoid_node
from lvjobs.control.submission.current_settings import changes_of, file_of, renewed
from lvjobs.control.submission.dispatch import Queue, send_in_turn, wait
from lvjobs.control.submission.run_directories import allow
from lvjobs.control.submission.send import SubmitResult, same_job
from lvjobs.errors import UsageError
from lvjobs.files import create_exclusive
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Event, Reservation, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.current import typed_over
from lvjobs.study.words import MemberState, RunState, SubmitOutcome

_MOST_EVENTS = 10_000
"""Of a run, among which one is looked for that was reported before."""


def act(
    actions: Sequence[Action],
    study: StudyContext,
    ledger: Ledger,
    clusters: Mapping[str, Cluster],
    terms: Terms,
    now: float,
    loads: Mapping[str, Load | None] | None = None,
    unusable: Mapping[str, ProfileError] | None = None,
) -> list[str]:
    """Do it; returns what was done, in words, a line each.

    `clusters` maps profile names and backends to clusters, `unusable` the profiles that make none to the reasons;
    `loads` are how full each backend's queue was.
    """
    runs, told = _write(actions, study, ledger, now)
    told += _touch(actions, ledger, clusters, runs, now)
    told += _submit(actions, study, Queue(ledger, now, loads), clusters, unusable or {}, terms, now)
    return told


def _write(
    actions: Sequence[Action], study: StudyContext, ledger: Ledger, now: float
) -> tuple[dict[str, RunRecord], list[str]]:
    told: list[str] = []
    with ledger.transaction() as transaction:
        runs = {run.id: run for run in transaction.unclosed()}  # whatever a pass decides is of these
        saved = [action.attempt for action in actions if isinstance(action, SaveAttempt)]
        transaction.save_attempts([attempt for attempt in saved if attempt.id])
        latest = {attempt.run_id: attempt.id for attempt in saved}
        for action in actions:
            told += _write_one(action, transaction, runs, study, now, latest)
        spenders = {attempt.run_id for attempt in saved}
        attempts = defaultdict(list)
        for attempt in transaction.attempts(sorted(spenders)):
            attempts[attempt.run_id].append(attempt)
        charges = {run_id: charges_of(runs[run_id], attempts[run_id]) for run_id in spenders}
        transaction.replace_charges_of(charges)
        _close_accounts(transaction, runs)
        # Before the commit: what the ledger calls revoked, no worker may train, whenever this process should die.
        _revoke(actions, study, runs)
    for action in actions:  # after it: no worker may spend what the ledger did not reserve
        if isinstance(action, Reserve):
            allow(study, {runs[action.run_id].name: action.work})
    return runs, list(dict.fromkeys(told))


def _write_one(
    action: Action,
    transaction: Transaction,
    runs: dict[str, RunRecord],
    study: StudyContext,
    now: float,
    latest: dict[str, int],
) -> Iterable[str]:
    """Write it. `latest` are the ids of the attempts that are new or changed, the last one of each run."""
    if isinstance(action, SaveAttempt):
        if not action.attempt.id:
            latest[action.attempt.run_id] = transaction.add_attempt(action.attempt)
    elif isinstance(action, SetRun):
        run, problem = runs[action.run_id], ""
        changes: dict[str, Any] = {
            "state": action.state,
            "reason": action.reason,
            "cause": action.cause,
            "not_before": action.not_before,
            "resources": {**run.resources, **action.resources},
            "held_for": action.held_for,
        }
        if action.resources:  # kept like what the user types: study.toml's value counts again once it is changed
            file = file_of(study, run.stage)
            changes["typed"] = {**run.typed, **typed_over(file, action.resources)}
        elif run.state is RunState.HELD and action.state in (RunState.PLANNED, RunState.INTERRUPTED):
            renewal, problem = _renewed(run, study)
            changes |= renewal
        changes = {key: value for key, value in changes.items() if value != getattr(run, key)}
        if changes:
            transaction.update_run(run.id, **changes)
            runs[run.id] = replace(run, **changes)
        ended = latest.get(run.id) if action.death else None
        if action.words:
            text = action.note if ended else action.words
            transaction.add_event(Event(now, action.state.value, text, run.id, attempt_id=ended))
        if problem:
            transaction.add_event(Event(now, action.state.value, problem, run.id))
        return [f"{run.name}: {words}" for words in (action.words, problem) if words]
    elif isinstance(action, RecordEvent):
        if all(event.text != action.text for event in transaction.events(action.run_id, limit=_MOST_EVENTS)):
            transaction.add_event(Event(now, "state", action.text, action.run_id))
            return [f"{runs[action.run_id].name}: {action.text}"]
    elif isinstance(action, Reserve):
        transaction.reserve(Reservation(action.run_id, action.work))
    elif isinstance(action, GiveBack):
        transaction.give_back(action.run_id)
    elif isinstance(action, Adopt):
        transaction.update_submission(action.token, job_id=action.job_id)
        return [f"found job {action.job_id} by its token {action.token}: its sbatch reply had been lost; adopted"]
    elif isinstance(action, MarkMissing):
        transaction.update_member(action.token, action.run_id, missing_since=action.since)
    elif isinstance(action, Revoke):
        # missing for the live run is not yet missing for good: its job is looked for anew, and cancelled if it comes
        transaction.update_member(action.token, action.run_id, state=MemberState.REVOKED, missing_since=None)
    elif isinstance(action, Settle):
        transaction.update_member(action.token, action.run_id, state=MemberState.SETTLED)
    elif isinstance(action, LiftHold):
        transaction.update_member(action.token, action.run_id, hold_lifted=action.restart_count)
    elif isinstance(action, AvoidNode):
        avoid_node(transaction, action.node, action.reason, now)
    return []


def _renewed(run: RunRecord, study: StudyContext) -> tuple[dict[str, Any], str]:
    """Return what study.toml changes of a run that was held; nothing, and why, where that no longer fits the run."""
    try:
        return changes_of(run, renewed(run, study)), ""
    except UsageError as error:  # the user is not there to be asked, and what was submitted last did fit
        why = f"{error.problem}; {error.fix}" if isinstance(error, ProfileError) else str(error)
        return {}, f"keeps the settings of its last submission, for those of study.toml do not fit it: {why}"


def _close_accounts(transaction: Transaction, runs: Mapping[str, RunRecord]) -> None:
    """What is over, or held until there are FLOPs, gives back what it did not spend.

    Once no job of it is left; but a completed run has its done marker, and whatever job it has spends nothing more.
    """
    spending = {member.run_id for member in transaction.members()}
    for run_id in transaction.reservations():
        run = runs[run_id]
        is_over = (run.state.is_final or run.held_for) and run_id not in spending
        if is_over or run.state is RunState.COMPLETED:
            transaction.give_back(run_id)


def _revoke(actions: Sequence[Action], study: StudyContext, runs: Mapping[str, RunRecord]) -> None:
    """Tell the workers, where they look: durable before any other submission for the run goes out."""
    for action in actions:
        if isinstance(action, Revoke):
            path = study.layout.run(runs[action.run_id].name).revoked / action.token
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                create_exclusive(path, "")


def _touch(
    actions: Sequence[Action],
    ledger: Ledger,
    clusters: Mapping[str, Cluster],
    runs: Mapping[str, RunRecord],
    now: float,
) -> list[str]:
    told = []
    done = set()
    for action in actions:
        if isinstance(action, CancelJob | Release | LiftHold | Extend):
            what = (type(action), action.job_id)
            if what in done:  # of runs that share a job each asks for it
                continue
            done.add(what)
        if isinstance(action, CancelJob):
            verb, call = "cancelled", partial(clusters[action.backend].cancel, action.job_id)
        elif isinstance(action, Release):
            verb, call = "released", partial(clusters[action.backend].release, action.job_id)
        elif isinstance(action, LiftHold):
            verb, call = "lifted the requeue hold of", partial(clusters[action.backend].lift_hold, action.job_id)
        elif isinstance(action, Extend):
            extend = clusters[action.backend].extend
            verb, call = "extended the time limit of", partial(extend, action.job_id, action.minutes)
        else:
            continue
        try:
            call()
            text = f"{verb} job {action.job_id}"
        except ClusterError as error:  # told and kept; the next pass finds the job as it is, and tries again
            text = f"not {verb} job {action.job_id}: {error}"
        with ledger.transaction() as transaction:
            last = transaction.events(action.run_id, limit=1)
            if not last or last[-1].text != text:  # a job that takes its time is told to go in every pass
                transaction.add_event(Event(now, "cluster", text, action.run_id))
        told.append(f"{runs[action.run_id].name}: {text}")
    return told


def _submit(
    actions: Sequence[Action],
    study: StudyContext,
    queue: Queue,
    clusters: Mapping[str, Cluster],
    unusable: Mapping[str, ProfileError],
    terms: Terms,
    now: float,
) -> list[str]:
    """Submit runs that have a job in common as one array, the oldest first, as far as there is room in the queue."""
    wanted = {action.run_id for action in actions if isinstance(action, Submit)}
    if not wanted:
        return []
    with queue.ledger.transaction() as transaction:
        runs = [run for run in transaction.runs(only_open=True) if run.id in wanted]
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[same_job(run)].append(run)
    told = []
    for group in groups.values():
        profile = profile_of(study.layout, group[0])
        if profile in unusable:
            wait(queue.ledger, group, f"not submitted: {unusable[profile].problem}; {unusable[profile].fix}")
            continue
        if clusters[profile].absent:  # the runs stay due, for a pass on a host that reaches it
            continue
        for sent in send_in_turn(study, queue, clusters[profile], group, terms, now):
            if sent.outcome is not SubmitOutcome.LIMITED:
                told.append(_outcome(sent))
            if sent.outcome is SubmitOutcome.UNCLEAR:  # until its token was looked up, nothing more goes there
                return told
    return told


def _outcome(sent: SubmitResult) -> str:
    names = ", ".join(run.name for run in sent.runs)
    outcome = f"submitted as job {sent.job_id}" if sent.job_id else sent.outcome.value
    outcome += f": {sent.said}" if sent.said else ""
    return f"{names}: {outcome}"
