"""The files with a pass's summary: `summary.json`, and beside it the rows of closed runs (`closed.json`).

The rows of closed runs are written only when their set changes, so a pass over many runs has little to write.
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
    """The rows of closed runs, and the mark of their set (`lvjobs.ledger.rows`)."""

    mark: tuple[int, str] = (0, "")
    rows: Sequence[Mapping[str, Any]] = ()


def whole(summary: Mapping[str, Any], closed: ClosedRows) -> dict[str, Any]:
    """Return a pass's summary with the rows of all runs, in the order of their declaration, and the FLOPs of each."""
    own = {row["id"] for row in summary["runs"]}
    rows = [*summary["runs"], *(row for row in closed.rows if row["id"] not in own)]
    rows.sort(key=lambda row: row["ordinal"])
    budget = {**summary["budget"], "by_run": {row["name"]: row["flops"] for row in rows}}
    return {**summary, "runs": rows, "budget": budget}


def write_summary(path: Path, summary: Mapping[str, Any], mark: tuple[int, str]) -> None:
    """Write the summary, with the rows of runs that are not closed, to `path`. `mark`: see `ClosedRows`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps({**summary, "closed": mark}))  # on one line: programs read it


def read_summary(path: Path, where: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the last pass's summary, or None if no pass was ever made. `where`: see `StudyContext.where`.

    If the rows of closed runs do not fit the summary, the summary's `problems` say so.
    """
    for _ in range(2):  # a pass may write both files between the two reads
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if "closed" not in summary:  # an earlier release wrote it
            return summary
        mark, closed = tuple(summary.pop("closed")), read_closed(path)
        if closed.mark == mark:
            return whole(summary, closed)
    incomplete = f"runs that ended are missing in what the last pass left; type: {remedies.STATUS(*where)}"
    return whole({**summary, "problems": [*summary["problems"], incomplete]}, closed)


def write_closed(path: Path, mark: tuple[int, str], rows: Sequence[str]) -> ClosedRows:
    """Write the rows of closed runs (each is JSON) beside the summary at `path`. They are a copy of runs.db's rows."""
    text = f'{{"mark": {json.dumps(mark)}, "runs": [{", ".join(rows)}]}}'
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path.with_name(_CLOSED), text, durable=False)
    return ClosedRows(mark, json.loads(text)["runs"])


def read_closed(path: Path) -> ClosedRows:
    """Return the rows beside the summary at `path`; none if the file is missing, or a crash left it incomplete."""
    try:
        value = json.loads(path.with_name(_CLOSED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ClosedRows()
    return ClosedRows(tuple(value["mark"]), value["runs"])
