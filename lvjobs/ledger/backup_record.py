"""The backup record of a run: `ledger.json` in its directory, in which an older release kept what only runs.db knew.

It omits what journals contain about an attempt. `ledger rebuild` reads it where the ledger's log is missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lvjobs.ledger.reading import current_rates
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord, WorkCounts


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


def parse_backup(text: str, config: Mapping[str, Any]) -> BackupRecord:
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
