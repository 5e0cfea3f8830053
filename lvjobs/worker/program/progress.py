"""The progress of a program: from the lines that it prints, and from files of JSON lines or CSV. Pure, but for reading.

A step here is a count: 1 once the first step was executed, whatever number the program gives it.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvjobs.study.program.command import STEP, CommandConfig
from lvjobs.study.program.placeholders import fill, names_in
from lvjobs.worker.program.event_files import read_events

_TAKEN = frozenset({"kind", "time", "step", "steps", "seconds", "self"})
"""Names that the journal has for itself, or that no argument can have: a metric of such a name is left out."""

_NAME = re.compile(r"[A-Za-z_][\w./-]{0,63}\Z")


@dataclass(frozen=True)
class Report:
    """A report of a program. `step` is None for metrics of the step that was reported last."""

    step: int | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_validation: bool = False


class LineParser:
    """The regular expressions of a run, with the run's values filled in."""

    def __init__(self, config: CommandConfig, values: Mapping[str, Any]) -> None:
        escaped = {name: re.escape(str(value)) for name, value in values.items()}

        def compiled(texts: Sequence[str]) -> list[re.Pattern[str]]:
            return [re.compile(fill(text, escaped)) for text in texts if set(names_in([text])) <= escaped.keys()]

        self._first, self._key = config.first_step, config.progress_key
        self._validation = compiled(config.validation)
        self._progress = compiled(config.progress)
        self._metrics = compiled(config.metrics)

    @property
    def counts_steps(self) -> bool:
        """Return whether any line is expected to have a step."""
        return bool(self._progress)

    def reports(self, line: str) -> Iterator[Report]:
        """Yield what a line of the program's output reports."""
        for expressions, is_validation in ((self._validation, True), (self._progress, False)):
            for expression in expressions:
                if match := expression.search(line):
                    values = match.groupdict()
                    step = self._count(values.get(STEP))
                    if step is not None or is_validation:
                        yield Report(step, _metrics(values), is_validation)
        found: dict[str, float] = {}
        for expression in self._metrics:
            if match := expression.search(line):
                found |= _metrics(match.groupdict())
        if found:
            yield Report(None, found)

    def record(self, values: Mapping[str, Any]) -> Iterator[Report]:
        """Yield what one record of a file reports: a JSON object, or a row of CSV."""
        step = self._count(values.get(self._key, values.get(STEP)))
        if step is not None:
            yield Report(step, _metrics({**values, self._key: None}), bool(values.get("validation")))

    def _count(self, number: Any) -> int | None:
        whole = _whole(number)
        return None if whole is None else whole - self._first + 1


EVENT_FILE = "tfevents"
"""Part of the name of TensorBoard's files."""


class GrowingFile:
    """A file that a program appends to: CSV (`.csv`), TensorBoard's events by their name, or else JSON lines."""

    def __init__(self, directory: Path, pattern: str) -> None:
        """Find the file by its path in `directory`, in which a * stands for anything; the last one made counts."""
        self._directory, self._pattern = directory, pattern
        self._path: Path | None = None
        self._offset = 0
        self._header: list[str] | None = None
        self._first_line = b""
        self._rows = 0

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the records whose lines were completed since the last call."""
        try:
            found = [path for path in self._directory.glob(self._pattern) if path.is_file()]  # a FIFO's end would wait
            newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
            if newest is None:
                return
            skipped = 0
            with newest.open("rb") as stream:
                is_cut = os.fstat(stream.fileno()).st_size < self._offset
                if newest != self._path or is_cut or stream.read(len(self._first_line)) != self._first_line:
                    skipped = 0 if newest != self._path or is_cut else self._rows
                    self._path, self._offset, self._header, self._rows, self._first_line = newest, 0, None, 0, b""
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:  # it was deleted a moment ago
            return
        if EVENT_FILE in newest.name:
            events, end = read_events(data)
            self._offset += end
            yield from events
            return
        end = data.rfind(b"\n") + 1
        if not self._offset and newest.suffix == ".csv":
            self._first_line = data[: data.find(b"\n") + 1]
        self._offset += end
        for line in data[:end].decode("utf-8", errors="replace").splitlines():
            for record in self._record(line) if line.strip() else ():
                self._rows += 1
                if self._rows > skipped:  # Lightning writes all rows again when a new metric gets a column
                    yield record

    def _record(self, line: str) -> Iterator[Mapping[str, Any]]:
        if self._path is None or self._path.suffix != ".csv":
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                return
            if isinstance(value, dict):
                yield value
            return
        try:
            row = next(csv.reader(io.StringIO(line)), [])
        except csv.Error:
            return
        if self._header is None:
            self._header = row
        else:
            yield dict(zip(self._header, row, strict=False))


def _whole(value: Any) -> int | None:
    """Return a step's number; None for what is none. A program may print `1,000` or `250.0`."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value).replace(",", ""))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers, under names that a journal can hold."""
    found = {}
    for name, value in values.items():
        if name in _TAKEN or value is None or isinstance(value, bool) or not _NAME.match(str(name)):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if name != "validation" and not math.isinf(number):
            found[str(name)] = number
    return found
