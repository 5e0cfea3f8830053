"""The user's words on runs: tags, by which commands choose runs, and notes, which a run's history keeps."""

import re
from collections.abc import Sequence

from lvjobs.control.reconcile.run_commands import find_runs
from lvjobs.control.session import Session
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Event

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_LONGEST_NOTE = 1000


def change_tag(session: Session, tag: str, wanted: Sequence[str], *, remove: bool = False) -> list[str]:
    """Give runs a tag, or remove it from them; return a line for each.

    Raises:
        UsageError: The tag is not allowed, a run does not exist, or a run without the tag is to lose it. Nothing was
            changed.
    """
    if _TAG.fullmatch(tag) is None:
        raise UsageError(f"tag {tag!r}: use up to 32 letters, digits, dots, dashes and underscores, such as baseline")
    with session.ledger.transaction() as transaction:
        runs = find_runs(transaction, wanted, session.study.where)
        if remove and (without := [run.name for run in runs if tag not in run.tags]):
            raise UsageError(f"{without[0]} does not have the tag {tag}; leave that run out")
        for run in runs:
            tags = {*run.tags} - {tag} if remove else {*run.tags, tag}
            transaction.update_run(run.id, tags=sorted(tags))
    return [f"{run.name}: tag {tag} {'removed' if remove else 'added'}" for run in runs]


def add_note(session: Session, run: str, text: str) -> list[str]:
    """Add a note to a run's history; return a line.

    Raises:
        UsageError: The note is empty or too long, or the run does not exist.
    """
    text = " ".join(text.split())
    if not text:
        raise UsageError("the note is empty; write its text after the run's name, in quotes")
    if len(text) > _LONGEST_NOTE:
        raise UsageError(f"the note has {len(text)} characters; use {_LONGEST_NOTE} at most")
    with session.ledger.transaction() as transaction:
        (found,) = find_runs(transaction, [run], session.study.where)
        transaction.add_event(Event(session.clock(), "note", f"note: {text}", found.id))
    return [f"{found.name}: note added"]
