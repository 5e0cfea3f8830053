"""Tables as text: CSV for spreadsheets, JSON lines for programs. Pure."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

FORMATS = ("csv", "jsonl")


def as_text(rows: Sequence[Mapping[str, Any]], form: str, *, table: str = "") -> str:
    """Return the rows as `csv` or `jsonl`. If `table` is given, each JSON line has it.

    Losses that are nan or infinite are null in JSON, which has no such numbers; CSV has `nan` or `inf`.
    """
    if form == "csv":
        return _csv(rows)
    named = ({"table": table, **row} if table else row for row in rows)
    return "".join(json.dumps(_finite(row), allow_nan=False) + "\n" for row in named)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return a cell's value: nested values as JSON, booleans in lower case; None becomes an empty cell."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    return "true" if value is True else "false" if value is False else value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
