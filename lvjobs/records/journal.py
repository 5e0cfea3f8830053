"""The journal: one JSON object a line, append-only, one file a generation. It is the record of what ran.

The first line is the claim of the attempt (`lvjobs.records.run_files.Claim`), with which the file was created. Kinds of
the other lines (each has `kind` and `time`, seconds since the epoch on the worker's clock):

    start       generation, token, job_id, restart_count, host, node (Slurm's name of it), pid, versions (of packages;
                under `device` the device that computes), python_path (PYTHONPATH beyond the submitted code),
                processes (that train together), checkpoint_every (steps between its checkpoints), job_start (when
                the job began to hold its GPUs),
                resumed_from (the name of the checkpoint that it resumed from, null for none)
    software    packages (the hash of their list in .lvjobs/packages), or problem (why they are not known); versions (of
                a program's packages); of a program's code commit, dirty (files differ from the commit), locks (hashes
                of lock files by name) and image (of a container); where it differs, changed_packages and changed_code
                (in words), and since (the generation it is compared with; 0: the submission)
    step        step, and metrics: loss, learning_rate, tokens, seconds; steps, where a program reports several at once:
                how many it executed since its last report, `step` included
    validation  step, and metrics: loss, batches, tokens, seconds; windows, where batches differ in size
    generation  step, series (number of forecasts), and metrics
    checkpoint  step, name, bytes, seconds
    invalid_checkpoint  name, problem (it was damaged, and an older one was used)
    other_processes  trained (the number of processes that made the checkpoint it resumed from), processes: the run is
                no longer bit for bit the same as an undisturbed run
    lost_process  rank, status (its exit code, negative for a signal, null: it does not answer), node (of that rank, if
                it is not the worker's): the attempt ends like a killed worker
    died        status: the worker itself ended, in a job that other runs share; written by the process that started it
    alive       step (the last one executed): a program printed something that reports no step
    signal      signal (its name), step (the last one executed; written at once, so other lines may follow)
    leave       cause (`lvjobs.study.words.LeaveCause`), step,
                action (none | requeued | asked: the process that started the runs of this job was asked to
                requeue it), detail
    error       type, message, traceback, step; where the code is not to blame, breakdown (what failed:
                `lvjobs.study.words.Breakdown`) and node (Slurm's name of it); see `lvjobs.records.failure`
    done        step, and metrics

A reader may read the file at any instant: a last line without its newline is incomplete and is left for the next read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lvjobs.foreign import clean

CLAIM = "claim"
"""The kind of the first line: the attempt that owns the generation (`lvjobs.records.run_files.Claim`)."""


@dataclass(frozen=True)
class Entry:
    """One line of a journal."""

    kind: str
    time: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the line, newline included."""
        return json.dumps({"kind": self.kind, "time": self.time, **self.fields}, separators=(",", ":")) + "\n"


def steps_of(entry: Entry) -> int:
    """Return how many steps an entry reports as executed; 0 for an entry of another kind."""
    return int(entry.fields.get("steps", 1)) if entry.kind == "step" else 0


def parse_line(line: str) -> Entry | None:
    """Return the entry on one complete line, or None where a failed writer cut it short or a disk damaged it."""
    try:
        value = json.loads(line)
        return Entry(value.pop("kind"), float(value.pop("time")), clean(value))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_entries(data: bytes) -> tuple[list[Entry], int]:
    """Return the entries of `data`, and how many bytes they took, up to and including the last newline.

    The next read can continue there. The claim is no entry: while a journal has nothing else, it has not begun, and 0
    bytes are taken. A line in the middle that is no entry (an incomplete write continued by a later one) is skipped.
    """
    end = data.rfind(b"\n") + 1
    lines = map(parse_line, data[:end].decode("utf-8", errors="replace").splitlines())
    known = [line for line in lines if line is not None]
    entries = [line for line in known if line.kind != CLAIM]
    return entries, 0 if known and not entries else end
