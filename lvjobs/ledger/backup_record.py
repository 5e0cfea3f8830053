"""The backup record of a run: `ledger.json` in its directory, with what only runs.db knows, for `ledger rebuild`.

It is written after each commit that changed any of it. It omits what journals contain about an attempt: the journals
are the record of that.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lvjobs.ledger.reading import by_run, current_rates
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.words import RunState

SCHEMA = 1

_RUN = tuple(item.name for item in fields(RunRecord) if item.name not in ("config", "reason"))
_ATTEMPT = (
    *("id", "token", "job_id", "restart_count", "started", "generation", "host", "ended", "cause", "evidence"),
    *("allocated_seconds", "gpus", "sharing"),
)
"""The conclusions of reconcile passes. An attempt that claimed no generation has a little more (`_UNCLAIMED`), because
no journal has it.
"""

_UNCLAIMED = ("resumed_from", "checkpoint_step")
_AT_REST = (RunState.HELD, RunState.PAUSED, RunState.CANCELLED)


@dataclass(frozen=True)
class BackupRecord:
    """The kept rows of one run: `run` without its config, attempts without what journals contain."""

    run: RunRecord
    attempts: Sequence[AttemptRecord] = ()
    submissions: Sequence[SubmissionRecord] = ()
    members: Sequence[Member] = ()
    reservation: WorkCounts | None = None
    cells: Mapping[str, int] = field(default_factory=dict)
    """The run's place in each stage that compares it."""

    def to_json(self) -> str:
        """Return one JSON object as text; the same text for the same rows."""
        run = {key: getattr(self.run, key) for key in _RUN}
        if self.run.state in _AT_REST:  # any other reason is the queue's, and changes often
            run["reason"] = self.run.reason
        value = {
            "schema": SCHEMA,
            "run": run,
            "attempts": [_attempt(attempt) for attempt in self.attempts],
            "submissions": [asdict(each) for each in self.submissions],
            "members": [{**asdict(each), "missing_since": None} for each in self.members],
            "reservation": asdict(self.reservation) if self.reservation else None,
            "cells": dict(self.cells),
        }
        return json.dumps(value, sort_keys=True) + "\n"


def backup_records(transaction: Transaction, run_ids: Collection[str]) -> list[BackupRecord]:
    """Return the backup records of those of these runs that exist."""
    if not run_ids:
        return []
    attempts = by_run(transaction.attempts(sorted(run_ids)))
    members = by_run(transaction.members(unsettled=False))
    submissions = {each.token: each for each in transaction.submissions(unsettled=False)}
    places: dict[str, dict[str, int]] = defaultdict(dict)
    for stage, cells in transaction.cells().items():
        for position, run_id in enumerate(cells):
            places[run_id][stage] = position
    reserved = transaction.reservations()
    return [
        BackupRecord(
            run,
            attempts[run.id],
            [submissions[member.token] for member in members[run.id]],
            members[run.id],
            reserved.get(run.id),
            places[run.id],
        )
        for run in transaction.runs()
        if run.id in run_ids
    ]


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    keys = _ATTEMPT if attempt.generation is not None else (*_ATTEMPT, *_UNCLAIMED)
    return {key: getattr(attempt, key) for key in keys}


def parse_backup(text: str, config: Mapping[str, Any]) -> BackupRecord:
    """Return the backup record that `BackupRecord.to_json` wrote, for a run of this configuration.

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
