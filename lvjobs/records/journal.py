"""The journal: one JSON object a line, append-only, one file a generation. The witness of what ran.

Kinds of line (each has `kind` and `time`, seconds since the epoch on the worker's clock):

    start       generation, token, job_id, restart_count, host, node (as Slurm calls it), pid, versions (of packages;
                under `device` what it computes on), python_path (PYTHONPATH beyond the code that was submitted),
                processes (that train together), checkpoint_every (steps between its checkpoints),
                resumed_from (the name of the checkpoint it begins from, null for none)
    step        step, and metrics: loss, learning_rate, tokens, seconds
    validation  step, and metrics: loss, batches, tokens, seconds; windows, where batches are not all as large
    generation  step, series (how many were forecast), and metrics
    checkpoint  step, name, bytes, seconds
    invalid_checkpoint  name, problem (it was damaged and passed over for an older one)
    other_processes  trained (how many made the checkpoint it begins from), processes: no longer bit for bit
                what an undisturbed run would be
    lost_process  rank, status (its exit code, negative for a signal, null: it does not answer): the attempt ends
    died        status: the worker itself, of a job that other runs share; told by the process that started it
    signal      signal (its name), step (the last one executed; as soon as it comes, so other lines may follow)
    leave       cause (`lvjobs.study.words.LeaveCause`), step,
                action (none | requeued | asked: of the process that put its job back, if that could), detail
    error       type, message, traceback, step; device (true) and node (Slurm's name of it), where not the code is to
                blame but a device
    done        step, and metrics

A reader may meet the file at any instant: a last line without its newline is torn and is left for the next reading.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lvjobs.foreign import clean


@dataclass(frozen=True)
class Entry:
    """One line of a journal."""

    kind: str
    time: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """The line, newline included."""
        return json.dumps({"kind": self.kind, "time": self.time, **self.fields}, separators=(",", ":")) + "\n"


def parse_line(line: str) -> Entry | None:
    """The entry on one complete line, or None for one that a dead writer tore or a disk mangled."""
    try:
        value = json.loads(line)
        return Entry(value.pop("kind"), float(value.pop("time")), clean(value))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_entries(data: bytes) -> tuple[list[Entry], int]:
    """The entries of `data`, and how many bytes they took: up to and with the last newline, so that reading can go on.

    A line in the middle that is not an entry (a torn write continued by a later one) is passed over.
    """
    end = data.rfind(b"\n") + 1
    return list(_entries(data[:end])), end


def _entries(data: bytes) -> Iterator[Entry]:
    for line in data.decode("utf-8", errors="replace").splitlines():
        entry = parse_line(line)
        if entry is not None:
            yield entry
