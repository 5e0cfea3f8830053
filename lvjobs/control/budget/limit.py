"""The budget's limit: set in study.toml, by hand or by `lvjobs budget set`. Every change of it is recorded."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from lvjobs.control.budget.accounts import Terms
from lvjobs.errors import UsageError
from lvjobs.files import write_atomic
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Event
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext, load_study
from lvjobs.study.tables import Budget

_KEY = "limit"


def terms_of(budget: Budget) -> Terms:
    """Return the terms that study.toml's [budget] sets."""
    return Terms(budget.limit, budget.convention, budget.count_inference)


def reread_budget(study: StudyContext) -> StudyContext:
    """Return the study with [budget] as study.toml has it now: it may have changed while this process waited.

    Raises:
        UsageError: study.toml cannot be read.
    """
    if not study.layout.config.exists():
        return study
    budget = load_study(study.root).config.budget
    return replace(study, config=study.config.model_copy(update={"budget": budget}))


def note_limit(transaction: Transaction, limit: int, now: float, reason: str = "") -> None:
    """Record a limit (in FLOPs) that differs from the last known one. An event without a reason says so.

    The first limit of a study is recorded without an event.
    """
    known = transaction.setting(_KEY)
    if known == str(limit):
        return
    transaction.set_setting(_KEY, str(limit))
    if known is not None:
        verb = "raised" if limit > int(known) else "lowered"
        text = f"the limit was {verb} from {int(known):.4g} to {limit:.4g} FLOPs: "
        text += reason or "study.toml was edited, and no reason given"
        details = {"from": known, "to": str(limit), "reason": reason}
        transaction.add_event(Event(now, "budget", text, details=details))


def change_limit(study: StudyContext, ledger: Ledger, limit: int, typed: str, reason: str, now: float) -> None:
    """Set the limit (in FLOPs) in study.toml, and record the change. `typed` is the limit as the user typed it.

    Raises:
        UsageError: the limit is raised without a reason, or study.toml cannot be written. The limit is unchanged.
    """
    known = ledger.call(Transaction.setting, _KEY)
    if known is not None and limit > int(known) and not reason:
        raise UsageError(
            f"{limit:.4g} FLOPs is more than the limit of {int(known):.4g}, which stays: say why it may be raised, for "
            'the record, with --because "..."'
        )
    _write(study, limit, typed)
    ledger.call(note_limit, limit, now, reason or "by a command, and no reason given")


def _write(study: StudyContext, limit: int, typed: str) -> None:
    """Set [budget] limit in study.toml, as it was typed, and keep everything else, comments too."""
    import tomlkit

    path = study.layout.config
    value: Any = limit
    with suppress(tomlkit.exceptions.ParseError):
        item = tomlkit.value(typed)
        if isinstance(item, (int, float)) and int(item) == limit:  # `1e17` is easier to read than its 18 digits
            value = item
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        table = document.setdefault("budget", tomlkit.table())
        table["limit"] = value
        write_atomic(path, tomlkit.dumps(document))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); the limit is as it was: see that the file may be written, "
            "and type it again"
        ) from error
