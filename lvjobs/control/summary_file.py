"""The files with a pass's summary: `summary.json`, and beside it the rows of closed runs (`closed_runs.json`).

The rows of closed runs are written only when their set changes, so a pass over many runs has little to write. They are
written by field, one line each, so that a command reads only the fields that it shows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from lvjobs import remedies
from lvjobs.files import write_atomic
from lvjobs.records.summary import RUN_FIELDS, PassSummary, RunTable

_CLOSED = "closed_runs.json"
_FORMER = "closed.json"
"""The file of earlier releases: one object, with a row for each run."""
_FORMAT = 1
"""The version of `closed_runs.json`. A file of another version is not read; the next pass writes it again."""


@dataclass(frozen=True)
class ClosedRows:
    """The rows of closed runs by field, and the mark of their set (`lvjobs.ledger.rows`).

    `fields` have the JSON list of each field's values, or of the one value that all the runs have.
    """

    mark: tuple[int, str] = (0, "")
    fields: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        """Return a field's values, in the order in which the runs were declared."""
        values: list[Any] = json.loads(self.fields.get(name, "[null]"))
        return values * self.mark[0] if len(values) == 1 else values


def by_field(mark: tuple[int, str], rows: Iterable[Mapping[str, Any]]) -> ClosedRows:
    """Return these rows by field. `mark`: see `ClosedRows`."""
    columns = zip(*([row.get(name) for name in RUN_FIELDS] for row in rows), strict=True)
    fields = {name: json.dumps(_once(values)) for name, values in zip(RUN_FIELDS, columns, strict=False)}
    return ClosedRows(mark, fields)


def _once(values: Sequence[Any]) -> Sequence[Any]:
    first = values[0]
    return [first] if all(type(value) is type(first) and value == first for value in values) else values


def whole(summary: Mapping[str, Any], closed: ClosedRows) -> PassSummary:
    """Return a pass's summary with the rows of all runs, in the order of their declaration, and the FLOPs of each."""
    own = summary["runs"]
    runs = RunTable(lambda name: [*(row.get(name) for row in own), *closed.column(name)])
    again = {row["id"] for row in own}  # a run that was opened again since has two rows
    places = [place for place, id_ in enumerate(runs.column("id")) if place < len(own) or id_ not in again]
    places.sort(key=runs.column("ordinal").__getitem__)
    runs = runs if places == [*range(len(runs))] else runs.take(places)
    budget = {**summary["budget"], "by_run": dict(zip(runs.column("name"), runs.column("flops"), strict=True))}
    return PassSummary({**summary, "budget": budget}, runs)


def write_summary(path: Path, summary: Mapping[str, Any], mark: tuple[int, str]) -> None:
    """Write the summary, with the rows of runs that are not closed, to `path`. `mark`: see `ClosedRows`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps({**summary, "closed": mark}))  # on one line: programs read it


def read_summary(path: Path, where: Sequence[str] = ()) -> PassSummary | None:
    """Return the last pass's summary, or None if no pass was ever made. `where`: see `StudyContext.where`.

    If the rows of closed runs do not fit the summary, the summary's `problems` say so.
    """
    for _ in range(2):  # a pass may write both files between the two reads
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if "closed" not in summary:  # an earlier release wrote it
            return PassSummary(summary, RunTable.of_rows(summary["runs"]))
        mark = tuple(summary.pop("closed"))
        for read in (read_closed, _read_former):
            if (closed := read(path)).mark == mark:
                return whole(summary, closed)
    incomplete = f"finished runs are missing in the last summary; type: {remedies.STATUS(*where)}"
    return whole({**summary, "problems": [*summary["problems"], incomplete]}, read_closed(path))


def write_closed(path: Path, closed: ClosedRows) -> None:
    """Write the rows of closed runs beside the summary at `path`. They are a copy of runs.db's rows."""
    lines = ",\n".join(f'"{name}": {values}' for name, values in closed.fields.items())
    head = {"format": _FORMAT, "mark": closed.mark, "crc32": crc32(lines.encode())}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path.with_name(_CLOSED), f"{json.dumps(head)[:-1]},\n{lines}}}", durable=False)
    path.with_name(_FORMER).unlink(missing_ok=True)


def read_closed(path: Path) -> ClosedRows:
    """Return the rows beside the summary at `path`; none if the file is missing, or a crash left it incomplete."""
    with suppress(FileNotFoundError, ValueError):
        head, _, rest = path.with_name(_CLOSED).read_text(encoding="utf-8").partition(",\n")
        known, lines = json.loads(head + "}"), rest.removesuffix("}")
        if (known["format"], known["crc32"]) == (_FORMAT, crc32(lines.encode())):
            parts = (line.partition(": ") for line in lines.split(",\n"))
            return ClosedRows(tuple(known["mark"]), {name.strip('"'): values for name, _, values in parts})
    return ClosedRows()


def _read_former(path: Path) -> ClosedRows:
    """Return the rows that an earlier release wrote beside the summary at `path`; see `read_closed`."""
    with suppress(FileNotFoundError, ValueError):
        former = json.loads(path.with_name(_FORMER).read_text(encoding="utf-8"))
        return by_field(tuple(former["mark"]), former["runs"])
    return ClosedRows()
