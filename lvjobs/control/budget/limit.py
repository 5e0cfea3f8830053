"""The budget's limits: set in study.toml, by hand or by `lvjobs budget set`. Every change of one is recorded."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lvjobs.control.budget.accounts import Terms
from lvjobs.control.budget.gpu_hours import HOUR
from lvjobs.errors import UsageError
from lvjobs.files import write_atomic
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Event
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext, load_study
from lvjobs.study.tables import Budget

UNITS = {"limit": "FLOPs", "gpu_hours": "GPU-hours"}
"""The limits, as [budget] and the ledger's settings name them, and their units."""


def terms_of(budget: Budget) -> Terms:
    """Return the terms that study.toml's [budget] sets."""
    seconds = None if budget.gpu_hours is None else int(budget.gpu_hours * HOUR)
    return Terms(budget.limit, budget.convention, budget.count_inference, seconds)


def reread_budget(study: StudyContext) -> StudyContext:
    """Return the study with [budget] as study.toml has it now: it may have changed while this process waited.

    Raises:
        UsageError: study.toml cannot be read.
    """
    if not study.layout.config.exists():
        return study
    budget = load_study(study.root).config.budget
    return replace(study, config=study.config.model_copy(update={"budget": budget}))


def note_limits(transaction: Transaction, budget: Budget, now: float, reason: str = "") -> None:
    """Record each limit that differs from the last known one. An event without a reason says so.

    The first limits of a study are recorded without an event. A limit of GPU-hours may be set and removed later.
    """
    is_new = transaction.setting("limit") is None
    for key, unit in UNITS.items():
        limit, known = getattr(budget, key), transaction.setting(key)
        if known == str(limit) or (limit is None and not known):
            continue
        transaction.set_setting(key, "" if limit is None else str(limit))
        if is_new:
            continue
        text = f"{_change(known, limit, unit)}: {reason or 'study.toml was edited, and no reason given'}"
        details = {"from": known or "", "to": "" if limit is None else str(limit), "reason": reason}
        transaction.add_event(Event(now, "budget", text, details=details))


def _change(known: str | None, limit: float | None, unit: str) -> str:
    if limit is None or not known:
        done = "removed" if limit is None else f"set to {limit:.4g}"
        return f"the limit of {unit} was {done}"
    verb = "raised" if limit > float(known) else "lowered"
    return f"the limit was {verb} from {float(known):.4g} to {limit:.4g} {unit}"


def change_limits(
    study: StudyContext, ledger: Ledger, limits: Mapping[str, float], typed: Mapping[str, str], reason: str, now: float
) -> StudyContext:
    """Set limits in study.toml, record the changes, and return the study with them.

    `limits` are by their names in [budget] (`UNITS`), `typed` the same as the user typed them.

    Raises:
        UsageError: a limit is raised without a reason, or study.toml cannot be written. The limits are unchanged.
    """
    for key, limit in limits.items():
        known = ledger.call(Transaction.setting, key)
        if known and limit > float(known) and not reason:
            raise UsageError(
                f"{limit:.4g} {UNITS[key]} is more than the limit of {float(known):.4g}, which was not changed; "
                'give the reason: --because "..."'
            )
    _write(study, limits, typed)
    budget = study.config.budget.model_copy(update=dict(limits))
    ledger.call(note_limits, budget, now, reason or "by a command, without a reason")
    return replace(study, config=study.config.model_copy(update={"budget": budget}))


def _write(study: StudyContext, limits: Mapping[str, float], typed: Mapping[str, str]) -> None:
    """Set keys of [budget] in study.toml, as they were typed, and keep everything else, comments too."""
    import tomlkit

    path = study.layout.config
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        table = document.setdefault("budget", tomlkit.table())
        for key, limit in limits.items():
            value: Any = limit
            with suppress(tomlkit.exceptions.ParseError):
                item = tomlkit.value(typed[key])
                if isinstance(item, (int, float)) and item == limit:  # `1e17` is easier to read than its 18 digits
                    value = item
            table[key] = value
        write_atomic(path, tomlkit.dumps(document))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); the limit was not changed: make the file writable, then "
            f"run the command again"
        ) from error
