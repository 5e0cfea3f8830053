"""The recovery of one run from its directory: the rows that a lost ledger had, and what cannot be restored."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from json import JSONDecodeError
from typing import Any, TypeAlias

from lvjobs import remedies
from lvjobs.cluster.backends import BACKENDS, backend_of
from lvjobs.cluster.sent import SentJob
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.journal_fold import begin, fold
from lvjobs.control.reconcile.observe import read_claims, read_done, read_from
from lvjobs.control.recovery.audit import foreign
from lvjobs.control.submission.submission_files import standing
from lvjobs.errors import LvjobsError
from lvjobs.files import is_foreign
from lvjobs.ledger.backup_record import BackupRecord, parse_backup
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import Claim
from lvjobs.study.config import StudyConfig
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState, RunState
from lvjobs.tasks.registry import rates_of

Code: TypeAlias = Callable[[str], str]


@dataclass(frozen=True)
class Recovered:
    """One run's rows. `lost` are lines on what is guessed or missing."""

    memo: BackupRecord
    lost: Sequence[str] = ()

    @property
    def run(self) -> RunRecord:
        """Return the run."""
        return self.memo.run


def recover(
    files: RunLayout,
    filed: Mapping[str, Any] | None,
    config: StudyConfig,
    sent: Sequence[SentJob],
    code: Code,
    now: float,
) -> Recovered:
    """Read a run directory.

    Args:
        files: The run directory, which may be missing.
        filed: The content of run.json in a submission's file, for a run that has not begun.
        config: The study's configuration.
        sent: The submissions that name the run.
        code: A function that returns the name of a snapshot of a task's code as it is now, for a run whose own snapshot
            is not recorded.
        now: The time, in seconds since the epoch.

    Raises:
        LvjobsError: the run directory cannot be read, or is a copy of another run's. The message names the reason.
    """
    try:
        is_there = filed is None or files.config.exists()
        found = RunFile.read(files.config) if is_there else RunFile.model_validate(filed)
        claims = {claim.generation: claim for claim in read_claims(files, known=frozenset())}
        done = read_done(files)
        kept = _kept_record(files, found)
        memo, lost = (kept, []) if kept is not None else _guess(files, found, config, claims, sent, code, now)
    except (OSError, ValueError, TypeError) as error:
        raise LvjobsError(
            f"{files.root} cannot be read ({str(error).splitlines()[0]}); restore it from a copy, or move it away"
        ) from None
    if found.name != files.root.name:
        raise LvjobsError(f"{files.root} is a copy of the directory of {found.name}, and is left alone; move it away")
    run = replace(memo.run, state=RunState.COMPLETED) if done is not None and not memo.run.state.is_final else memo.run
    if done is None and run.state is RunState.COMPLETED:
        lost.append("its done marker: a job of it would train again")
    attempts = [replace(attempt, grown=now) for attempt in memo.attempts]
    return Recovered(replace(memo, run=run, attempts=attempts), lost=lost)


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
        files, known = layout.run(run.name), {attempt.generation: attempt for attempt in attempts[run.id]}
        try:
            if is_foreign(files.root):
                lost.append(foreign(run.name, files.root).what)
                continue
            claims = {claim.generation: claim for claim in read_claims(files, known=frozenset())}
            found = []
            for number, claim in sorted(claims.items()):
                attempt = known.get(number) or begin(claim, run.id, now)
                found.append(_as_journaled(attempt, claim, read_from(files.journal(number)), now))
        except (OSError, ValueError, TypeError) as error:
            lost.append(f"{run.name}: what its directory has beyond the log ({str(error).splitlines()[0]})")
            continue
        gone = [number for number, each in known.items() if number and number not in claims and not each.has_started]
        lost += [f"{run.name}: attempt {each}: its claim is gone, and what it executed is not charged" for each in gone]
        changed += [each for each in found if not each.id or _has_more(each, known[each.generation])]
        _add_submissions(transaction, run, files, members[run.id], claims, sent.get(run.name, ()))
    transaction.save_attempts(changed)
    attempts, charges = by_run(transaction.attempts()), by_run(transaction.charges())
    derived = {run.id: charges_of(run, attempts[run.id]) for run in transaction.runs()}
    transaction.replace_charges({key: each for key, each in derived.items() if set(each) != set(charges[key])})
    return lost


def _has_more(seen: AttemptRecord, known: AttemptRecord) -> bool:
    """Return whether the journal shows another attempt than the ledger, and has all that the ledger has read."""
    return seen.journal_offset >= known.journal_offset and replace(seen, grown=known.grown) != known


def _add_submissions(
    transaction: Transaction,
    run: RunRecord,
    files: RunLayout,
    known: Sequence[Member],
    claims: Mapping[int, Claim],
    sent: Sequence[SentJob],
) -> None:
    """Add the submissions that a run's known members do not name. The newest is live, unless it was revoked.

    Without a job id and a file it was refused, and is none.
    """
    tokens = {member.token for member in known}
    submissions, members = _submissions(
        files,
        run.id,
        run.profile,
        {number: claim for number, claim in claims.items() if claim.token not in tokens},
        [job for job in sent if job.token not in tokens and (job.job_id or files.study.submission(job.token).exists())],
    )
    if any(member.state is MemberState.LIVE for member in members):
        for member in known:
            if member.state is MemberState.LIVE:
                state = MemberState.REVOKED if _is_revoked(files, member.token) else MemberState.SETTLED
                transaction.update_members({(member.token, run.id): {"state": state}})
        transaction.update_run(run.id, state=RunState.SUBMITTING, reason="")
    if submissions:
        there = {submission.token for submission in transaction.submissions(unsettled=False)}
        for submission in submissions:
            if submission.token not in there:
                transaction.add_submission(submission, ())
        transaction.add_members(members)


def _as_journaled(attempt: AttemptRecord, claim: Claim, journal: bytes, now: float) -> AttemptRecord:
    """Return an attempt as its journal shows it, with what passes concluded about it."""
    seen = fold(begin(claim, attempt.run_id, now), *parse_entries(journal), now)
    own = ("id", "ended", "cause", "evidence", "allocated_seconds", "gpus", "sharing")
    kept = {key: getattr(attempt, key) for key in own}
    is_done = attempt.cause is not None and attempt.cause.value == "completed"
    return replace(seen, **kept, finished=seen.finished or is_done)


def _kept_record(files: RunLayout, found: RunFile) -> BackupRecord | None:
    """Return the run's backup record; None where there is none, or it is another run's."""
    with suppress(FileNotFoundError, JSONDecodeError, UnicodeDecodeError):  # it may be torn by a power failure
        kept = parse_backup(files.memo.read_text(encoding="utf-8"), found.config.model_dump(mode="json"))
        return kept if kept.run.id == found.id else None
    return None


def _guess(
    files: RunLayout,
    found: RunFile,
    config: StudyConfig,
    claims: Mapping[int, Claim],
    sent: Sequence[SentJob],
    code: Code,
    now: float,
) -> tuple[BackupRecord, list[str]]:
    """Return the rows of a run without a backup record (an earlier release made it). study.toml supplies the rest."""
    made = files.config.stat().st_mtime if files.config.exists() else now
    submissions, members = _submissions(files, found.id, config.profile, claims, sent)
    live = any(member.state is MemberState.LIVE for member in members)
    state, reason = RunState.SUBMITTING if live else RunState.HELD, ""
    if not live:
        reason = (
            "the ledger was made anew, and whether the run was held, paused, cancelled or waited for another is not "
            f"known; to go on with it: {remedies.RESUME_RUN(run=found.name)}; to end it: "
            f"{remedies.CANCEL(run=found.name)}"
        )
    run = RunRecord(
        id=found.id,
        name=found.name,
        stage=found.stage,
        fingerprint=found.fingerprint,
        config=found.config.model_dump(mode="json"),
        profile=submissions[-1].profile if submissions else config.profile,
        resources=config.resources.variables(),
        code=code(found.config.task),
        created=made,
        state=RunState.COMPLETED if files.done.exists() else state,
        reason="" if files.done.exists() else reason,
        rates=rates_of(found.config),
    )
    lost = ["what it asked of the cluster, by which code and at what rates: as study.toml and this release have it"]
    if not live and not files.done.exists():
        lost.append("whether it was held, paused or cancelled: it is held now")
    return BackupRecord(run, (), submissions, members), lost


def _submissions(
    files: RunLayout, run_id: str, profile: str, claims: Mapping[int, Claim], sent: Sequence[SentJob]
) -> tuple[list[SubmissionRecord], list[Member]]:
    """Return the submissions that the claims and `sent` show, oldest first, and their members.

    A submission that only a claim shows is as old as the claim. Of the submissions that are not revoked, the last one
    is live, and the others are settled. `profile` is the run's.
    """
    own = backend_of(profile)
    found: dict[str, tuple[SubmissionRecord, int]] = {}
    for each in sent:
        sent_by = profile if each.backend == own.name else BACKENDS[each.backend].usual_profile
        size, job_id = len(each.run_directories), each.job_id
        place = [path.name for path in each.run_directories].index(files.root.name)
        found[each.token] = SubmissionRecord(each.token, sent_by, each.backend, each.created, size, job_id), place
    for _, claim in sorted(claims.items()):
        if claim.token and claim.token not in found:
            job, _, index = claim.job_id.partition("_")
            place = int(index or 0)
            submission = SubmissionRecord(claim.token, profile, own.name, claim.time, place + 1, job)
            found[claim.token] = submission, place
    ordered = sorted(found.values(), key=lambda pair: pair[0].created)
    may = [one.token for one, _ in ordered if not _is_revoked(files, one.token)]
    members = []
    for one, place in ordered:
        if one.token not in may:
            state = MemberState.REVOKED
        else:
            state = MemberState.LIVE if one.token == may[-1] else MemberState.SETTLED
        members.append(Member(one.token, place, run_id, state))
    return [one for one, _ in ordered], members


def _is_revoked(files: RunLayout, token: str) -> bool:
    try:
        return standing(files.study, files.root.name, token)[0]
    except FileNotFoundError:  # an older release submitted it, and its budget had no limit
        return (files.revoked / token).exists()
