"""`lvjobs ledger check`: the ledger's file, its rows compared with the run directories, and its file system."""

import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import is_elsewhere
from lvjobs.control.budget.accounts import Books, statement
from lvjobs.control.budget.archive import books_of, full_books_of
from lvjobs.control.budget.limit import terms_of
from lvjobs.control.recovery.audit import audit
from lvjobs.control.recovery.findings import Finding, finding
from lvjobs.control.recovery.place import other_place
from lvjobs.control.session import held_study
from lvjobs.errors import UsageError
from lvjobs.ledger.copies import Soundness, examine, refuse_lost
from lvjobs.ledger.database import COMMITS, open_ledger
from lvjobs.ledger.log import DamagedLogError, LedgerLog, read_log
from lvjobs.ledger.schema import HEAD
from lvjobs.ledger.storage import Storage, concerns, storage_of
from lvjobs.study.config import StudyContext


@dataclass(frozen=True)
class Checked:
    """The result of a check. `facts`: the number of rows, and the FLOPs spent; empty if they were not read."""

    storage: Storage
    sound: Soundness
    facts: dict[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Return whether there is no error. Notes are not errors."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (docs/json.md)."""
        return {
            "fine": self.is_fine,
            "revision": self.sound.revision,
            "storage": asdict(self.storage),
            "facts": self.facts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(study: StudyContext, wait: float) -> Checked:
    """Check everything, and change nothing. Wait `wait` seconds for another process to end its pass.

    Raises:
        LeaseTaken: another process still holds the lease.
        UsageError: there is no ledger, or the study directory cannot be written.
    """
    layout = study.layout
    refuse_lost(study)
    if not layout.database.exists():
        raise UsageError(f"{study.root} has no runs.db yet, so there is nothing to check; type: {study.begin}")
    storage = storage_of(study.root)
    if storage.read_only:
        return Checked(storage, examine(layout.database, frozen=True), {}, tuple(around(study, storage)))
    with held_study(study, wait=wait) as lease:
        sound = examine(layout.database)
        findings = [*around(study, storage), *_of_file(sound, study)]
        facts: dict[str, int] = {}
        if sound.is_current:
            opened = closing(open_ledger(layout.database, lease.number, where=study.where))
            with opened as ledger, ledger.transaction() as transaction:
                findings += other_place(transaction, study)
                runs, charges, terms = transaction.runs(), transaction.charges(), terms_of(study.config.budget)
                now = time.time()
                books = full_books_of(transaction, terms, layout, now)
                findings += _of_log(study, int(transaction.setting(COMMITS) or 0))
                findings += audit(transaction, layout, study.where)
                findings += _sums(books, statement(books_of(transaction, terms, layout, now)))
                facts = {"runs": len(runs), "attempts": len(transaction.attempts()), "charges": len(charges)}
                facts["spent"] = books.spent
    return Checked(storage, sound, facts, tuple(findings))


def _of_file(sound: Soundness, study: StudyContext) -> Iterator[Finding]:
    known = partial(finding, subject="runs.db", where=study.where)
    path = study.layout.database
    yield from (known("damaged", path=path, problem=problem) for problem in sound.problems)
    if sound.problems:
        return
    if sound.revision is None:
        yield known("no ledger", path=path)
    elif sound.revision != HEAD:
        yield known(f"{'older' if sound.revision < HEAD else 'newer'} schema", revision=sound.revision, head=HEAD)


def _of_log(study: StudyContext, commit: int) -> Iterator[Finding]:
    """Yield a finding if the log does not have the ledger's last commit, or has a damaged line before it."""
    path = study.layout.ledger_log
    if LedgerLog(path, HEAD).last != commit:
        yield finding("log behind", "ledger.log", study.where, path=path)
        return
    try:
        for _ in read_log(path):
            pass
    except DamagedLogError as error:
        remove = remedies.REMOVE_LOG(path=path)
        yield finding("log damaged", "ledger.log", study.where, path=path, problem=error, remove=remove)


def around(study: StudyContext, storage: Storage) -> Iterator[Finding]:
    """Yield findings on the study's file system, and on its access permissions."""
    for concern in concerns(storage, on_slurm=is_elsewhere(study.config.profile), where=study.where):
        yield Finding("error" if concern.serious else "note", "storage", concern.what, concern.remedy)
    layout = study.layout
    for path in (layout.root, layout.config, layout.database, layout.checkpoints, layout.logs, layout.internal):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            what = f"{path} is open to others (mode {stat.S_IMODE(mode):o})"
            yield Finding("note", "storage", what, f"if that is not meant, type: {remedies.CHMOD_PRIVATE(path=path)}")


def _sums(books: Books, shown: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each sum of the shown budget statement that differs from its total, or from the runs' own sums."""
    kinds = ("useful", "replayed") + (("validation", "generation") if shown["counts_inference"] else ())
    parts = {"the kinds": sum(shown[kind] for kind in kinds), "the stages": sum(shown["by_stage"].values())}
    parts["the runs"] = sum(account.spent(books.terms) for account in books.accounts.values())
    for name, total in parts.items():
        if total != shown["spent"]:
            yield finding("wrong sum", "runs.db", name=name, total=total, spent=shown["spent"])
