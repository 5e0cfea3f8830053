"""The execution of actions: one ledger transaction first, then the cluster. Steps may be repeated after a crash."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
    JobAction,
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
from lvjobs.control.submission.declare import changes_of, file_of, renewed
from lvjobs.control.submission.dispatch import Queue, prepare_submission, send_in_turn, wait
from lvjobs.control.submission.send import SubmitResult, same_job
from lvjobs.control.submission.submission_files import allow, revoke
from lvjobs.errors import UsageError
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext, typed_over
from lvjobs.study.words import MemberState, RunState, SubmitOutcome

_VERBS: Mapping[type[JobAction], str] = {
    CancelJob: "cancelled",
    Release: "released",
    LiftHold: "lifted the requeue hold of",
    Extend: "extended the time limit of",
}
_MOST_EVENTS = 10_000
"""The number of a run's events that are searched for an earlier one with the same text."""


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
    """Carry out the actions. Return one line for each thing that was done.

    Args:
        actions: What was decided, of all runs.
        study: The study.
        ledger: Its ledger.
        clusters: The clusters by profile name and by backend.
        terms: The prices and the limit of the budget.
        now: The time of the pass, in seconds since the epoch.
        loads: The load of each backend's queue as observed; None where it is unknown.
        unusable: The profiles that give no cluster, with the reasons. Their runs are not submitted.
    """
    runs, lines = _write(actions, study, ledger, now)
    lines += _touch(actions, ledger, clusters, runs, now)
    lines += _submit(actions, study, Queue(ledger, now, loads), clusters, unusable or {}, terms, now)
    return lines


def _write(
    actions: Sequence[Action], study: StudyContext, ledger: Ledger, now: float
) -> tuple[dict[str, RunRecord], list[str]]:
    lines: list[str] = []
    with ledger.transaction() as transaction:
        runs = {run.id: run for run in transaction.unclosed()}  # a pass decides about no other runs
        saved = [action.attempt for action in actions if isinstance(action, SaveAttempt)]
        transaction.save_attempts([attempt for attempt in saved if attempt.id])
        latest = {attempt.run_id: attempt.id for attempt in saved}
        for action in actions:
            lines += _write_one(action, transaction, runs, study, now, latest)
        spenders = {attempt.run_id for attempt in saved}
        attempts = by_run(transaction.attempts(sorted(spenders)))
        charges = {run_id: charges_of(runs[run_id], attempts[run_id]) for run_id in spenders}
        transaction.replace_charges(charges)
        _close_accounts(transaction, runs)
        # Before the commit: a submission that the ledger calls revoked must never train, even if this process crashes.
        revoke(study, [(each.token, runs[each.run_id].name) for each in actions if isinstance(each, Revoke)])
        renewed_steps = {each.run_id: each.work.training for each in actions if isinstance(each, Reserve)}
        live = [member for member in transaction.members() if member.state is MemberState.LIVE]
    # After the commit: no worker may spend what the ledger did not reserve.
    allow(
        study,
        [(member.token, runs[member.run_id].name) for member in live if member.run_id in renewed_steps],
        {runs[run_id].name: steps for run_id, steps in renewed_steps.items()},
    )
    return runs, list(dict.fromkeys(lines))


def _write_one(
    action: Action,
    transaction: Transaction,
    runs: dict[str, RunRecord],
    study: StudyContext,
    now: float,
    latest: dict[str, int],
) -> Iterable[str]:
    """Write one action. `latest` holds, for each run, the id of its last attempt that is new or changed."""
    match action:
        case SaveAttempt(attempt) if not attempt.id:
            latest[attempt.run_id] = transaction.add_attempt(attempt)
        case SetRun():
            return _set_run(action, transaction, runs, study, now, latest.get(action.run_id))
        case RecordEvent(run_id, text):
            if all(event.text != text for event in transaction.events(run_id, limit=_MOST_EVENTS)):
                transaction.add_event(Event(now, "state", text, run_id))
                return [f"{runs[run_id].name}: {text}"]
        case Reserve(run_id, work):
            transaction.reserve({run_id: work})
        case GiveBack(run_id):
            transaction.give_back(run_id)
        case Adopt(token, job_id):
            transaction.update_submission(token, job_id=job_id)
            return [f"found job {job_id} by its token {token}: its sbatch reply had been lost; adopted"]
        case MarkMissing(token, run_id, since):
            transaction.update_member(token, run_id, missing_since=since)
        case Revoke(token, run_id):
            # The search for its job begins again: a job that appears later has to be cancelled.
            transaction.update_member(token, run_id, state=MemberState.REVOKED, missing_since=None)
        case Settle(token, run_id):
            transaction.update_member(token, run_id, state=MemberState.SETTLED)
        case LiftHold():
            transaction.update_member(action.token, action.run_id, hold_lifted=action.restart_count)
        case AvoidNode(node, _, reason):
            avoid_node(transaction, node, reason, now)
    return []


def _set_run(
    action: SetRun,
    transaction: Transaction,
    runs: dict[str, RunRecord],
    study: StudyContext,
    now: float,
    newest: int | None,
) -> list[str]:
    """Write how a run stands now; return it in words. `newest`: the id of its last attempt that is new or changed."""
    run, problem = runs[action.run_id], ""
    changes: dict[str, Any] = {
        "state": action.state,
        "reason": action.reason,
        "cause": action.cause,
        "not_before": action.not_before,
        "resources": {**run.resources, **action.resources},
        "held_for": action.held_for,
    }
    if action.resources:  # kept like typed settings: they apply until study.toml changes the value
        file = file_of(study, run.stage)
        changes["typed"] = {**run.typed, **typed_over(file, action.resources)}
    elif run.state is RunState.HELD and action.state in (RunState.PLANNED, RunState.INTERRUPTED):
        renewal, problem = _renewed(run, study)
        changes |= renewal
    changes = {key: value for key, value in changes.items() if value != getattr(run, key)}
    if changes:
        transaction.update_run(run.id, **changes)
        runs[run.id] = replace(run, **changes)
    ended = newest if action.failure else None
    if action.words:
        text = action.note if ended else action.words
        transaction.add_event(Event(now, action.state.value, text, run.id, attempt_id=ended))
    if problem:
        transaction.add_event(Event(now, action.state.value, problem, run.id))
    return [f"{run.name}: {words}" for words in (action.words, problem) if words]


def _renewed(run: RunRecord, study: StudyContext) -> tuple[dict[str, Any], str]:
    """Return study.toml's changes to a run that was held; if they do not fit the run, no changes and the reason."""
    try:
        return changes_of(run, renewed(run, study)), ""
    except UsageError as error:  # the user is absent; the settings of the last submission did fit
        why = f"{error.problem}; {error.fix}" if isinstance(error, ProfileError) else str(error)
        return {}, f"keeps the settings of its last submission, for those of study.toml do not fit it: {why}"


def _close_accounts(transaction: Transaction, runs: Mapping[str, RunRecord]) -> None:
    """End the reservations of runs that are final, or held until FLOPs are free, once none of their jobs is left.

    A completed run does not wait for its job: its done marker is written, so the job spends nothing more.
    """
    spending = {member.run_id for member in transaction.members()}
    for run_id in transaction.reservations():
        run = runs[run_id]
        is_over = (run.state.is_final or run.held_for) and run_id not in spending
        if is_over or run.state is RunState.COMPLETED:
            transaction.give_back(run_id)


def _touch(
    actions: Sequence[Action],
    ledger: Ledger,
    clusters: Mapping[str, Cluster],
    runs: Mapping[str, RunRecord],
    now: float,
) -> list[str]:
    did = []
    asked: dict[tuple[type, str], JobAction] = {}
    for action in actions:
        if isinstance(action, JobAction):  # each of the runs that share a job has the same action
            asked.setdefault((type(action), action.job_id), action)
    for action in asked.values():
        cluster, verb = clusters[action.backend], _VERBS[type(action)]
        try:
            match action:
                case CancelJob():
                    cluster.cancel(action.job_id)
                case Release():
                    cluster.release(action.job_id)
                case LiftHold():
                    cluster.lift_hold(action.job_id)
                case Extend():
                    cluster.extend(action.job_id, action.minutes)
            text = f"{verb} job {action.job_id}"
        except ClusterError as error:  # reported and recorded; the next pass tries again
            text = f"not {verb} job {action.job_id}: {error}"
        with ledger.transaction() as transaction:
            last = transaction.events(action.run_id, limit=1)
            if not last or last[-1].text != text:  # every pass cancels a job that is slow to end
                transaction.add_event(Event(now, "cluster", text, action.run_id))
        did.append(f"{runs[action.run_id].name}: {text}")
    return did


def _submit(
    actions: Sequence[Action],
    study: StudyContext,
    queue: Queue,
    clusters: Mapping[str, Cluster],
    unusable: Mapping[str, ProfileError],
    terms: Terms,
    now: float,
) -> list[str]:
    """Submit runs that can share an array, the oldest first, as far as the queue has room."""
    wanted = {action.run_id for action in actions if isinstance(action, Submit)}
    if not wanted:
        return []
    runs = [run for run in queue.ledger.call(Transaction.runs, only_open=True) if run.id in wanted]
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[same_job(run)].append(run)
    lines = []
    for group in groups.values():
        profile = profile_of(study.layout, group[0])
        if profile in unusable:
            wait(queue.ledger, group, f"not submitted: {unusable[profile].problem}; {unusable[profile].fix}")
            continue
        if clusters[profile].absent:  # the runs stay due until a pass on a host that reaches the cluster
            continue
        prepared = prepare_submission(study, queue, clusters[profile], group)
        for sent in send_in_turn(study, queue, clusters[profile], prepared, terms, now):
            if sent.outcome is not SubmitOutcome.LIMITED:
                lines.append(_outcome(sent))
            if sent.outcome is SubmitOutcome.UNCLEAR:  # submit no more until a pass has searched for its token
                return lines
    return lines


def _outcome(sent: SubmitResult) -> str:
    names = ", ".join(run.name for run in sent.runs)
    outcome = f"submitted as job {sent.job_id}" if sent.job_id else sent.outcome.value
    outcome += f": {sent.said}" if sent.said else ""
    return f"{names}: {outcome}"
