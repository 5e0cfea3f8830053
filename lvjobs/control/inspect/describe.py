"""`lvjobs show RUN`: all that is known of a run, in sections: settings, files, job, attempts, metrics, cost, origin."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.control.budget.intervals import duration
from lvjobs.control.inspect.logs import newest_log
from lvjobs.control.inspect.why import headline
from lvjobs.control.session import Session
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.records.curves import LOSSES, SHOWN_LOSSES
from lvjobs.study.digits import in_digits
from lvjobs.tasks.origin import read_origin

Rows = Sequence[tuple[str, str]]
_METRICS = (*SHOWN_LOSSES, *(f"untrained_{name}" for name in LOSSES))


@dataclass(frozen=True)
class Description:
    """A run's `headline`, and its sections by their titles: pairs of a label and a text."""

    headline: str
    sections: Mapping[str, Rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (docs/json.md)."""
        return {"headline": self.headline, "sections": {title: dict(rows) for title, rows in self.sections.items()}}


def describe(session: Session, row: Mapping[str, Any]) -> Description:
    """Return all that is known of a run, given its `row` in the summary of a pass that has just been made."""
    with session.ledger.transaction() as transaction:
        run = transaction.find_run(id=row["id"])
        attempts = transaction.attempts([row["id"]])
        others = transaction.runs()
    assert run is not None
    children = [each.name for each in others if (each.config.get("parent") or {}).get("run") == run.name]
    sections = {
        "run": [*_of_the_run(run), *([("continued by", ", ".join(children))] if children else [])],
        "settings": [(key, _text(value)) for key, value in _settings(run).items()],
        "files": list(_files(session, run, row, attempts)),
        "job": list(_job(run, row, attempts)),
        "attempts": [(f"attempt {number}", _attempt(each)) for number, each in enumerate(attempts, start=1)],
        "metrics": [(name, f"{row[name]:.6g}") for name in _METRICS if row.get(name) is not None],
        "cost": list(_cost(row)),
        "origin": list(_origin(session, run)),
    }
    found = headline(run, row, attempts, session.clock())
    return Description(found, {title: rows for title, rows in sections.items() if rows})


def _of_the_run(run: RunRecord) -> Rows:
    rows = [
        ("name", run.name),
        ("id", run.id),
        ("stage", run.stage),
        ("declared", _clock(run.created)),
        ("fingerprint", run.fingerprint[:16]),
    ]
    if (parent := run.configuration.parent) is not None:
        rows.append(("continues", f"{parent.run}, from its checkpoint of step {parent.step} ({parent.sha256[:16]})"))
    return [*rows, ("tags", ", ".join(run.tags))] if run.tags else rows


def _settings(run: RunRecord) -> dict[str, Any]:
    """Return the run's settings: those of its task, with the keys of every run."""
    own = {key: value for key, value in run.config.items() if key not in ("params", "parent")}
    params = dict(run.config.get("params", {}))
    training = params.pop("training", {})
    return {**own, **params, **training}


def _files(
    session: Session, run: RunRecord, row: Mapping[str, Any], attempts: Sequence[AttemptRecord]
) -> Iterator[tuple[str, str]]:
    files = session.study.layout.run(run.name)
    archive = session.study.layout.archive(run.name)
    yield ("archive", str(archive)) if archive.exists() else ("directory", str(files.root))
    if log := newest_log(session.study, row):
        yield "log", str(log)
    saved = [attempt for attempt in attempts if attempt.checkpoint_step]
    if saved and not archive.exists():
        yield "checkpoints", f"{files.steps} (newest: step {max(each.checkpoint_step for each in saved)})"
    if files.final.is_dir():
        yield "result", str(files.final)
    adapter = files.final / "adapter"
    if adapter.is_dir():
        yield "adapter", str(adapter)


def _job(run: RunRecord, row: Mapping[str, Any], attempts: Sequence[AttemptRecord]) -> Iterator[tuple[str, str]]:
    yield "profile", run.profile
    for key, value in sorted(run.resources.items()):
        if value not in (None, "", [], {}):
            yield key, _text(value)
    if row["job_id"]:
        yield "job", row["job_id"]
    if attempts and attempts[-1].host:
        yield "node", attempts[-1].host


def _attempt(attempt: AttemptRecord) -> str:
    """Return an attempt in one line: job, node, steps, times, and its end."""
    ended = f" to {_clock(attempt.ended)}" if attempt.ended else ""
    if attempt.ended and attempt.allocated_seconds is not None and attempt.sharing == 1:
        ended = f" for {duration(attempt.allocated_seconds)}"  # an update may have seen the end long after it
    steps = f"steps {attempt.step - attempt.executed + 1} to {attempt.step}" if attempt.executed else "no step"
    end = f"{attempt.cause.value}: {attempt.evidence}" if attempt.cause else "active"
    where = f" on {attempt.host}" if attempt.host else ""
    return f"job {attempt.job_id}{where}, {_clock(attempt.started)}{ended}, {steps}; {end}"


def _cost(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "spent", f"{in_digits(row['flops'], 4)} FLOPs"
    yield "reserved", f"{in_digits(row['reserved'], 4)} FLOPs"
    yield "steps", f"{row['executed_steps']} executed, {row['replayed_steps']} of them repeated"


def _origin(session: Session, run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "code", str(session.study.layout.code / run.code)
    for key, value in read_origin(session.study.layout.code / run.code).items():
        yield key, _text(value)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    return time.strftime("%a %d %b %H:%M:%S", time.localtime(seconds))
