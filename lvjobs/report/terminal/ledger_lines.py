"""The results of `lvjobs ledger check` and `rebuild`, in lines. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.ledger.storage import Storage, describe
from lvjobs.report.numbers import counted


def check_lines(checked: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was checked, then what was found, errors first."""
    facts = checked["facts"]
    schema = checked["revision"] or "none"
    counts = ", ".join(counted(facts[key], key) for key in ("runs", "attempts", "charges") if key in facts)
    spent = f", {facts['spent']:.4g} FLOPs spent" if facts else ""
    yield f"runs.db: schema {schema}" + (f", {counts}{spent}" if facts else "; its rows were not compared")
    yield f"storage: {describe(Storage(**checked['storage']))}"
    findings = sorted(checked["findings"], key=lambda finding: finding["level"] != "error")
    for finding in findings:
        remedy = f"; {finding['remedy']}" if finding["remedy"] else ""
        yield f"{finding['level']}: {finding['subject']}: {finding['what']}{remedy}"
    wrong = sum(finding["level"] == "error" for finding in findings)
    if wrong:
        yield f"{wrong} thing{'s are' if wrong > 1 else ' is'} not as it should be"
    elif facts:
        yield "fine: the file is sound, and each charge follows from the journals"
    else:
        yield "nothing wrong was found"


def rebuild_lines(made: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield what was restored, then what was not. `where`: see `StudyContext.where`."""
    for path in made["aside"]:
        yield f"put aside: {path}"
    rows = f"{counted(made['runs'], 'runs')}, {counted(made['attempts'], 'attempts')}"
    yield f"runs.db: {rows}; jobs of theirs in the queue: {made['jobs']}"
    for note in made["notes"]:
        yield f"note: {note}"
    yield "not restored:"
    for line in made["lost"]:
        yield f"  {line}"
    yield f"nothing was submitted; what goes on is followed again by the next pass; type: {remedies.STATUS(*where)}"
