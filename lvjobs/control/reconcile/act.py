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
from lvjobs.control.submission.submission_files import allow, gpu_allowances, revoke
from lvjobs.errors import UsageError
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext, typed_over
from lvjobs.study.words import HeldFor, MemberState, RunState, SubmitOutcome

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
    with ledger.transaction() as transaction:
        changes, had = _Changes(study, transaction, now), transaction.reservations()
        attempts = transaction.save_attempts([each.attempt for each in actions if isinstance(each, SaveAttempt)])
        changes.latest.update({attempt.run_id: attempt.id for attempt in attempts})
        lines = [line for action in actions for line in changes.add(action)]
        changes.write()
        runs = changes.runs
        charged = by_run(transaction.attempts(changes.latest.keys()))
        transaction.replace_charges({run_id: charges_of(runs[run_id], own) for run_id, own in charged.items()})
        _close_accounts(transaction, runs)
        # Before the commit: a submission that the ledger calls revoked must never train, even if this process crashes.
        revoke(study, [(each.token, runs[each.run_id].name) for each in actions if isinstance(each, Revoke)])
        renewed = {each.run_id: each.work.training for each in actions if isinstance(each, Reserve)}
        gpu = gpu_allowances(transaction, study, [runs[run_id] for run_id in renewed])
        hours = {
            run_id: gpu.get(run_id)
            for run_id in renewed
            if run_id in gpu or (run_id in had and had[run_id].gpu_seconds)
        }
        live = [member for member in transaction.members() if member.state is MemberState.LIVE]
    # After the commit: no worker may spend what the ledger did not reserve.
    allow(
        study,
        [(member.token, runs[member.run_id].name) for member in live if member.run_id in renewed],
        {runs[run_id].name: steps for run_id, steps in renewed.items() if runs[run_id].rates},
        {runs[run_id].name: allowance for run_id, allowance in hours.items()},
    )
    return runs, list(dict.fromkeys(lines))


class _Changes:
    """The changes of a pass's actions in the ledger. The rows of many runs are written by one statement.

    `runs` are the runs that are not closed, with their changes: a pass decides about no other runs. `latest` has, for
    each run, the id of its last attempt that is new or changed.
    """

    def __init__(self, study: StudyContext, transaction: Transaction, now: float) -> None:
        self._study = study
        self._transaction = transaction
        self._now = now
        self.runs = {run.id: run for run in transaction.unclosed()}
        self.latest: dict[str, int] = {}
        self._of_runs: dict[str, dict[str, Any]] = defaultdict(dict)
        self._of_members: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        self._events: list[Event] = []

    def write(self) -> None:
        """Write the changes of runs and of members, and the events."""
        self._transaction.update_runs(self._of_runs)
        self._transaction.update_members(self._of_members)
        self._transaction.add_events(self._events)

    def add(self, action: Action) -> Iterable[str]:
        """Add an action; return what it does, in words."""
        transaction = self._transaction
        match action:
            case SetRun():
                return self._set_run(action)
            case RecordEvent(run_id, text):
                if all(event.text != text for event in transaction.events(run_id, limit=_MOST_EVENTS)):
                    self._events.append(Event(self._now, "state", text, run_id))
                    return [f"{self.runs[run_id].name}: {text}"]
            case Reserve(run_id, work):
                transaction.reserve({run_id: work})
            case GiveBack(run_id):
                transaction.give_back([run_id])
            case Adopt(token, job_id):
                transaction.update_submission(token, job_id=job_id)
                return [f"adopted job {job_id}, found by token {token}: sbatch's reply had been lost"]
            case MarkMissing(token, run_id, since):
                self._of_members[token, run_id].update(missing_since=since)
            case Revoke(token, run_id):
                # The search for its job begins again: a job that appears later has to be cancelled.
                self._of_members[token, run_id].update(state=MemberState.REVOKED, missing_since=None)
            case Settle(token, run_id):
                self._of_members[token, run_id].update(state=MemberState.SETTLED)
            case LiftHold():
                self._of_members[action.token, action.run_id].update(hold_lifted=action.restart_count)
            case AvoidNode(node, _, reason):
                avoid_node(transaction, node, reason, self._now)
        return []

    def _set_run(self, action: SetRun) -> list[str]:
        run, problem = self.runs[action.run_id], ""
        changes: dict[str, Any] = {
            "state": action.state,
            "reason": action.reason,
            "cause": action.cause,
            "not_before": action.not_before,
            "resources": {**run.resources, **action.resources},
            "held_for": action.held_for,
        }
        if action.resources:  # kept like typed settings: they apply until study.toml changes the value
            file = file_of(self._study, run.stage)
            changes["typed"] = {**run.typed, **typed_over(file, action.resources)}
        elif run.state is RunState.HELD and action.state in (RunState.PLANNED, RunState.INTERRUPTED):
            renewal, problem = _renewed(run, self._study)
            changes |= renewal
        changes = {key: value for key, value in changes.items() if value != getattr(run, key)}
        if changes:
            self._of_runs[run.id].update(changes)
            self.runs[run.id] = replace(run, **changes)
        ended = self.latest.get(run.id) if action.failure else None
        if action.words:
            text = action.note if ended else action.words
            self._events.append(Event(self._now, action.state.value, text, run.id, attempt_id=ended))
        if problem:
            self._events.append(Event(self._now, action.state.value, problem, run.id))
        return [f"{run.name}: {words}" for words in (action.words, problem) if words]


def _renewed(run: RunRecord, study: StudyContext) -> tuple[dict[str, Any], str]:
    """Return study.toml's changes to a run that was held; if they do not fit the run, no changes and the reason."""
    try:
        return changes_of(run, renewed(run, study)), ""
    except UsageError as error:  # the user is absent; the settings of the last submission did fit
        why = f"{error.problem}; {error.fix}" if isinstance(error, ProfileError) else str(error)
        return {}, f"keeps the settings of its last submission, because those of study.toml do not fit: {why}"


def _close_accounts(transaction: Transaction, runs: Mapping[str, RunRecord]) -> None:
    """End the reservations of runs that are final, or held until FLOPs are free, once none of their jobs is left.

    A completed run does not wait for its job: its done marker is written, so the job spends nothing more.
    """
    spending = {member.run_id for member in transaction.members()}
    reserved = [runs[run_id] for run_id in transaction.reservations()]
    idle = [run for run in reserved if (run.state.is_final or run.held_for) and run.id not in spending]
    completed = [run for run in reserved if run.state is RunState.COMPLETED]
    transaction.give_back({run.id for run in (*idle, *completed)})


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
            if sent.outcome is SubmitOutcome.OVER_BUDGET:  # by a time limit that was computed after the gate
                lines += _hold(queue.ledger, sent.runs, sent.said, now)
            elif sent.outcome is not SubmitOutcome.LIMITED:
                lines.append(_outcome(sent))
            if sent.outcome is SubmitOutcome.UNCLEAR:  # submit no more until a pass has searched for its token
                return lines
    return lines


def _hold(ledger: Ledger, runs: Sequence[RunRecord], said: str, now: float) -> list[str]:
    """Hold runs for which the budget has no room, until it has; return what was done."""
    with ledger.transaction() as transaction:
        change = {"state": RunState.HELD, "reason": said, "held_for": HeldFor.BUDGET}
        transaction.update_runs({run.id: change for run in runs})
        transaction.give_back([run.id for run in runs])
        transaction.add_events([Event(now, RunState.HELD.value, f"held: {said}", run.id) for run in runs])
    return [f"{run.name}: held: {said}" for run in runs]


def _outcome(sent: SubmitResult) -> str:
    names = ", ".join(run.name for run in sent.runs)
    outcome = f"submitted as job {sent.job_id}" if sent.job_id else sent.outcome.value
    outcome += f": {sent.said}" if sent.said else ""
    return f"{names}: {outcome}"
