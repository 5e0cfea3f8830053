"""The files in which passes leave how a study stands: `summary.json`, and beside it the rows of runs that are over.

These are written anew only when their set changes: a pass over a study of many runs has little to write.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.files import write_atomic

_CLOSED = "closed.json"


@dataclass(frozen=True)
class ClosedRows:
    """The rows of closed runs, and the mark of their set (`lvjobs.ledger.closed`)."""

    mark: tuple[int, str] = (0, "")
    rows: Sequence[Mapping[str, Any]] = ()


def whole(summary: Mapping[str, Any], closed: ClosedRows) -> dict[str, Any]:
    """A pass's summary with the rows of all runs, in the order they were made, and what each of them spent."""
    own = {row["id"] for row in summary["runs"]}
    rows = [*summary["runs"], *(row for row in closed.rows if row["id"] not in own)]
    rows.sort(key=lambda row: row["ordinal"])
    budget = {**summary["budget"], "by_run": {row["name"]: row["flops"] for row in rows}}
    return {**summary, "runs": rows, "budget": budget}


def write_summary(path: Path, summary: Mapping[str, Any], mark: tuple[int, str]) -> None:
    """Keep the summary, with the rows of runs that are not closed, where any command finds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps({**summary, "closed": mark}))  # in one line: it is for programs


def read_summary(path: Path, where: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the last pass's summary, or None when no pass was ever made. `where`: see `StudyContext.where`."""
    for _ in range(2):  # a pass may write both between the two looks
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if "closed" not in summary:  # of an earlier release
            return summary
        mark, closed = tuple(summary.pop("closed")), read_closed(path)
        if closed.mark == mark:
            return whole(summary, closed)
    incomplete = f"runs that ended are missing in what the last pass left; type: {remedies.STATUS(*where)}"
    return whole({**summary, "problems": [*summary["problems"], incomplete]}, closed)


def write_closed(path: Path, mark: tuple[int, str], rows: Sequence[str]) -> ClosedRows:
    """Keep the rows of closed runs (JSON, each) beside the summary at `path`. They are a copy of what runs.db has."""
    text = f'{{"mark": {json.dumps(mark)}, "runs": [{", ".join(rows)}]}}'
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path.with_name(_CLOSED), text, durable=False)
    return ClosedRows(mark, json.loads(text)["runs"])


def read_closed(path: Path) -> ClosedRows:
    """The rows beside the summary at `path`; none where there are none, or where a dead machine left half of them."""
    try:
        value = json.loads(path.with_name(_CLOSED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ClosedRows()
    return ClosedRows(tuple(value["mark"]), value["runs"])
