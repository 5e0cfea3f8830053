"""The recovery of runs from their directories: the rows that a lost ledger had, and what cannot be restored.

`recover` returns the rows of a run that the ledger's log does not have: those of its backup record, or only the run.
`read_on` then adds, to every run, the attempts and submissions that its directory and the schedulers' files show.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from lvjobs import remedies
from lvjobs.cluster.backends import BACKENDS, backend_of
from lvjobs.cluster.sent import SentJob
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.observe import read_attempts, read_claims, read_done
from lvjobs.control.recovery.audit import foreign
from lvjobs.control.submission.submission_files import orders_for
from lvjobs.errors import LvjobsError
from lvjobs.files import is_foreign
from lvjobs.ledger.reading import by_run, current_rates
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.submission import read_orders
from lvjobs.study.config import StudyConfig
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.study.words import Cause, MemberState, RunState
from lvjobs.tasks.registry import rates_of

Code: TypeAlias = Callable[[RunConfig], str]

_NOT_IN_JOURNALS = (
    *("id", "run_id", "token", "job_id", "restart_count", "started", "generation", "host", "ended", "cause"),
    *("evidence", "allocated_seconds", "gpus", "sharing", "grown"),
)
"""The fields of an attempt that passes concluded, or that its claim has. All others follow from its journal."""


@dataclass(frozen=True)
class BackupRecord:
    """The rows of one run, its attempts without what journals contain.

    An older release kept them in `ledger.json` in the run's directory.
    """

    run: RunRecord
    attempts: Sequence[AttemptRecord] = ()
    submissions: Sequence[SubmissionRecord] = ()
    members: Sequence[Member] = ()
    reservation: WorkCounts | None = None
    cells: Mapping[str, int] = field(default_factory=dict)
    """The run's place in each stage that compares it."""


def recover(
    files: RunLayout, filed: Mapping[str, Any] | None, config: StudyConfig, code: Code, lost: list[str], now: float
) -> BackupRecord:
    """Return the rows of a run that the ledger's log does not have.

    Args:
        files: The run directory, which may be missing.
        filed: The content of run.json in a submission's file, for a run that has not begun.
        config: The study's configuration.
        code: A function that returns the name of a snapshot of a task's code as it is now, for a run whose own snapshot
            is not recorded.
        lost: A list to which a line is added for each thing that is not restored.
        now: The time, in seconds since the epoch.

    Raises:
        LvjobsError: the run directory cannot be read, is another user's, or is a copy of another run's. The message
            names the reason.
    """
    if is_foreign(files.root):
        raise LvjobsError(foreign(files.root.name, files.root).what)
    try:
        is_there = filed is None or files.config.exists()
        found = RunFile.read(files.config) if is_there else RunFile.model_validate(filed)
        read_claims(files, known=frozenset())
        done = read_done(files)
        kept = _kept_record(files, found)
    except (OSError, ValueError, TypeError) as error:
        raise LvjobsError(
            f"{files.root} cannot be read ({str(error).splitlines()[0]}); restore it from a copy, or move it away"
        ) from None
    if found.name != files.root.name:
        raise LvjobsError(f"{files.root} is a copy of the directory of {found.name} and was not used; move it away")
    if kept is None:
        what = "what it asked of the cluster, by which code and at what rates: as study.toml and this release have it"
        lost.append(f"{found.name}: {what}")
        made = files.config.stat().st_mtime if is_there else now
        kept = BackupRecord(_declared(found, config, code(found.config), made))
    if done is not None and not kept.run.state.is_final:
        kept = replace(kept, run=replace(kept.run, state=RunState.COMPLETED))
    if done is None and kept.run.state is RunState.COMPLETED:
        lost.append(f"{found.name}: its done marker: a new job would train it again")
    return replace(kept, attempts=[replace(attempt, grown=now) for attempt in kept.attempts])


def _kept_record(files: RunLayout, found: RunFile) -> BackupRecord | None:
    """Return the run's backup record; None where there is none, or it is another run's."""
    with suppress(FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):  # it may be torn by a power failure
        kept = _parse_backup(files.memo.read_text(encoding="utf-8"), found.config.model_dump(mode="json"))
        return kept if kept.run.id == found.id else None
    return None


def _parse_backup(text: str, config: Mapping[str, Any]) -> BackupRecord:
    """Return the backup record of a run of this configuration.

    Keys that a newer release wrote are ignored.

    Raises:
        ValueError: the text is no backup record.
    """
    try:
        value = json.loads(text)
        run = {**value["run"], "config": config, "rates": current_rates(value["run"].get("rates", {}))}
        attempts = [{**row, "run_id": run["id"]} for row in value["attempts"]]
        found: BackupRecord = TypeAdapter(BackupRecord).validate_python({**value, "run": run, "attempts": attempts})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"not what runs.db knows of a run: {where}: {first['msg']}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not what runs.db knows of a run: {error}") from None
    return found


def _declared(found: RunFile, config: StudyConfig, code: str, made: float) -> RunRecord:
    """Return a run of which only run.json is known. study.toml supplies the rest.

    Its state is `submitting`: until `read_on` has looked, nobody knows whether a scheduler has its job.
    """
    return RunRecord(
        id=found.id,
        name=found.name,
        stage=found.stage,
        fingerprint=found.fingerprint,
        config=found.config.model_dump(mode="json"),
        profile=config.profile,
        resources=config.resources.variables(),
        code=code,
        created=made,
        state=RunState.SUBMITTING,
        rates=rates_of(found.config),
    )


def read_on(
    transaction: Transaction, layout: StudyLayout, sent: Mapping[str, Sequence[SentJob]], now: float
) -> list[str]:
    """Add to the runs of the ledger what their directories have beyond it; return lines on what they do not have.

    Args:
        transaction: A transaction of the ledger.
        layout: The study's directories.
        sent: Submissions in the backends' own files, by the name of each run that they name.
        now: The time, in seconds since the epoch.
    """
    attempts, members = by_run(transaction.attempts()), by_run(transaction.members(unsettled=False))
    changed, lost = [], []
    for run in transaction.runs():
        files, known = layout.run(run.name), {attempt.id: attempt for attempt in attempts[run.id]}
        try:
            if is_foreign(files.root):
                lost.append(foreign(run.name, files.root).what)
                continue
            found, _ = read_attempts(run.id, [_unread(attempt) for attempt in known.values()], files, (now, now))
        except (OSError, ValueError, TypeError) as error:
            lost.append(f"{run.name}: what its directory has beyond the log ({str(error).splitlines()[0]})")
            continue
        unclaimed = [each.generation for each in known.values() if each.generation and not each.has_started]
        gone = [number for number in unclaimed if not files.generation(number).exists()]
        lost += [f"{run.name}: attempt {each}: its claim is gone, and what it executed is not charged" for each in gone]
        changed += [attempt for attempt in found if not attempt.id or _has_more(attempt, known[attempt.id])]
        lost += _add_submissions(transaction, run, files, members[run.id], found, sent.get(run.name, ()))
    transaction.save_attempts(changed)
    attempts, charges = by_run(transaction.attempts()), by_run(transaction.charges())
    derived = {run.id: charges_of(run, attempts[run.id]) for run in transaction.runs()}
    transaction.replace_charges({key: each for key, each in derived.items() if set(each) != set(charges[key])})
    return lost


def _unread(attempt: AttemptRecord) -> AttemptRecord:
    """Return an attempt without what its journal contains: the journal is read again from its beginning."""
    if attempt.generation is None:
        return attempt
    kept = {name: getattr(attempt, name) for name in _NOT_IN_JOURNALS}
    # The done marker alone may show that it is finished: its journal's line was never written.
    return AttemptRecord(**kept, finished=attempt.cause is Cause.COMPLETED)


def _has_more(seen: AttemptRecord, known: AttemptRecord) -> bool:
    """Return whether the journal shows another attempt than the ledger, and has all that the ledger has read."""
    return seen.journal_offset >= known.journal_offset and replace(seen, grown=known.grown) != known


def _add_submissions(
    transaction: Transaction,
    run: RunRecord,
    files: RunLayout,
    known: Sequence[Member],
    attempts: Sequence[AttemptRecord],
    sent: Sequence[SentJob],
) -> list[str]:
    """Add the submissions that a run's known members do not name. The newest is live, unless it was revoked.

    Without a job id and a file it was refused, and is none; unless nothing else is known of the run. A run that may
    have been submitted, and has no submission that may train it, is held. Return lines on what is not known.
    """
    tokens = {member.token for member in known}
    is_unknown = run.state is RunState.SUBMITTING and not known
    submissions, members = _submissions(
        files,
        run,
        [attempt for attempt in attempts if attempt.token not in tokens],
        [
            job
            for job in sent
            if job.token not in tokens and (job.job_id or is_unknown or files.study.submission(job.token).exists())
        ],
    )
    there = {submission.token for submission in transaction.submissions(unsettled=False)}
    for submission in submissions:
        if submission.token not in there:
            transaction.add_submission(submission, ())
    live = [one.profile for one, member in zip(submissions, members, strict=True) if member.state is MemberState.LIVE]
    if live and run.state is not RunState.COMPLETED:
        for member in known:
            if member.state is MemberState.LIVE:
                transaction.update_members({(member.token, run.id): {"state": _former_state(files, member.token)}})
        transaction.update_run(run.id, state=RunState.SUBMITTING, reason="", profile=live[-1])
    transaction.add_members(members)
    if submissions and is_unknown:
        transaction.update_run(run.id, stop_at=_rung(files, submissions[-1].token))
    if live or not is_unknown:
        return []
    reason = (
        "runs.db was rebuilt, and the run's earlier state is unknown (held, paused, cancelled or waiting); "
        f"to continue it: {remedies.RESUME_RUN(run=run.name)}; to end it: {remedies.CANCEL(run=run.name)}"
    )
    transaction.update_run(run.id, state=RunState.HELD, reason=reason)
    return [f"{run.name}: whether it was held, paused or cancelled; it is held now"]


def _submissions(
    files: RunLayout, run: RunRecord, attempts: Sequence[AttemptRecord], sent: Sequence[SentJob]
) -> tuple[list[SubmissionRecord], list[Member]]:
    """Return the submissions that attempts and `sent` show, oldest first, and the run's member of each.

    A submission that only an attempt shows is as old as the attempt. Of the submissions that are not revoked, the last
    one is live, and the others are settled.
    """
    own = backend_of(run.profile)
    found: dict[str, tuple[SubmissionRecord, int]] = {}
    for each in sent:
        sent_by = run.profile if each.backend == own.name else BACKENDS[each.backend].usual_profile
        size, job_id = len(each.run_directories), each.job_id
        place = [path.name for path in each.run_directories].index(files.root.name)
        found[each.token] = SubmissionRecord(each.token, sent_by, each.backend, each.created, size, job_id), place
    for attempt in attempts:
        if attempt.token and attempt.token not in found:
            job, _, index = attempt.job_id.partition("_")
            place = int(index or 0)
            submission = SubmissionRecord(attempt.token, run.profile, own.name, attempt.started, place + 1, job)
            found[attempt.token] = submission, place
    ordered = sorted(found.values(), key=lambda pair: pair[0].created)
    states = {one.token: _former_state(files, one.token) for one, _ in ordered}
    settled = [token for token, state in states.items() if state is MemberState.SETTLED]
    if settled:
        states[settled[-1]] = MemberState.LIVE
    return [one for one, _ in ordered], [Member(one.token, place, run.id, states[one.token]) for one, place in ordered]


def _rung(files: RunLayout, token: str) -> int:
    """Return the step at which a submission's worker stops the run; 0 for none."""
    try:
        with files.study.submission(token).open("rb") as stream:
            return read_orders(stream)[0].stop_at.get(files.root.name, 0)
    except FileNotFoundError:
        return 0


def _former_state(files: RunLayout, token: str) -> MemberState:
    """Return the state of a submission that is not the newest: revoked where its workers see that, else settled."""
    try:
        is_revoked, _ = orders_for(files.study, files.root.name, token)
    except FileNotFoundError:  # an older release submitted it, and its budget had no limit
        is_revoked = (files.revoked / token).exists()
    return MemberState.REVOKED if is_revoked else MemberState.SETTLED
