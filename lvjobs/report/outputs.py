"""Results as files: directories that are never written over something else, CSV, JSON lines, and event files."""

import csv
import io
import json
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import write_json
from lvjobs.records.curves import Measurement


def claim(directory: Path, marker: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Make `directory` ready for results of this `identity`, and return what its marker held (empty if it is new).

    A directory that holds the same kind already may be written again.

    Raises:
        UsageError: it holds something else, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in directory.iterdir()}
        if marker not in held:
            if held:
                raise UsageError(
                    f"{directory} holds other files, such as {min(held)}: name another directory with --out"
                )
            write_json(directory / marker, identity)
            return {}
        found = json.loads((directory / marker).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its marker is no JSON"
        raise UsageError(f"{directory} cannot be used ({reason}): name another directory with --out") from None
    for key, value in identity.items():
        if not isinstance(found, dict) or found.get(key) != value:
            raise UsageError(f"{directory} holds something else ({key} differs): name another directory with --out")
    return dict(found)


TEXT_FORMATS = ("csv", "jsonl")
FORMATS = (*TEXT_FORMATS, "tensorboard")


def as_text(rows: Sequence[Mapping[str, Any]], form: str, *, table: str = "") -> str:
    """Return the rows as `csv` or `jsonl`. If `table` is given, each JSON line has it.

    Losses that are nan or infinite are null in JSON, which has no such numbers; CSV has `nan` or `inf`.
    """
    if form == "csv":
        return _csv(rows)
    named = ({"table": table, **row} if table else row for row in rows)
    return "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in named)


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


def finite(value: Any) -> Any:
    """Return a JSON value in which each number that is nan or infinite is None: JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_events(directory: Path, found: Iterable[Measurement]) -> None:
    """Write the measurements into `directory`, which has none yet.

    Raises:
        UsageError: TensorBoard's own package is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about its own imports
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            command = remedies.INSTALL_EXTRA(python=sys.executable, package="lvjobs[tensorboard]")
            raise UsageError(f"writing event files takes the package tensorboard; type: {command}") from None
    writer = EventFileWriter(str(directory))
    for each in found:
        values = [Summary.Value(tag=f"{each.kind}/{name}", simple_value=value) for name, value in each.values.items()]
        writer.add_event(Event(wall_time=each.time, step=each.step, summary=Summary(value=values)))
    writer.close()
