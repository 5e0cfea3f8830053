"""Answers in plain lines: what a site does with jobs, the state of the driver, and checks of the ledger. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.ledger.storage import Storage, describe
from lvjobs.report.numbers import counted
from lvjobs.study.digits import in_digits


def site_lines(site: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield what requeue, preemption and accounting mean at this site, one line each.

    `site` has the fields of `cluster.Site`. `where`: see `StudyContext.where`.
    """
    mode = site["preempt_mode"]
    if mode in (None, "off"):
        yield "this site does not preempt jobs"
    else:
        yield f"this site preempts jobs (PreemptMode={mode.upper()}); lvjobs resumes them"
    if site["requeue_hold_seconds"]:
        yield f"a requeued job is held for {site['requeue_hold_seconds']:.0f} s; lvjobs lifts that hold"
    if not site["accounting"]:
        kept = site["min_job_age_seconds"]
        age = f"{kept:.0f} s" if kept else "a while"
        keep = f"keep {remedies.WATCH(*where)} running"
        yield f"this site has no accounting: Slurm forgets how a job ended after {age}, so {keep}"
    limits = [
        f"{name} no limit" if minutes is None else f"{name} {minutes / 60:g} h"
        for name, minutes in site["partitions"].items()
    ]
    if limits:
        yield f"partitions and their longest time limits: {', '.join(limits)}"
    yield from (*site["notes"], *site["ways"])


def driver_lines(shown: Mapping[str, Any], jobs: Sequence[str], now: float, where: Sequence[str] = ()) -> list[str]:
    """Return the lines that `lvjobs driver status` prints of `lvjobs.control.driver.status.report`.

    `jobs` has a line for each of the driver's jobs. `now` is in seconds since the epoch. `where`: see
    `StudyContext.where`.
    """
    lines = [f"driver: {job}" for job in jobs]
    if shown["jobs"] is None:
        lines.append("Slurm did not answer whether a driver job exists")
    elif not lines and not shown["cron"]:
        lines.append(f"no driver: {_why(shown, where)}")
    if shown["cron"]:
        lines.append(
            f"{' and '.join(shown['cron'])} updates the study; to remove it, type: {remedies.DRIVER_UNINSTALL(*where)}"
        )
    lines += [f"this site: {line}" for line in shown["site"]]
    if shown["last_pass"] is not None:
        lines.append(f"last update: {now - shown['last_pass']:.0f} s ago")
    return lines


def _why(shown: Mapping[str, Any], where: Sequence[str]) -> str:
    if shown["stopped"]:
        return f"it was stopped; type: {remedies.DRIVER_START(*where)}"
    if not shown["enabled"]:
        return f"job = false under [driver] in study.toml; keep {remedies.WATCH(*where)} running"
    if not shown["left"]:
        return "no active Slurm runs"
    if shown["refused"]:
        install = remedies.DRIVER_INSTALL_SCRONTAB if shown["scrontab"] else remedies.DRIVER_INSTALL
        return (
            f"the site refused it: {shown['refused']}; name a partition, account or QOS for it under [driver] in "
            f"study.toml, then: {remedies.RESUME(*where)}; if the site allows none, type: {install(*where)}"
        )
    return f"the next update submits it; type: {remedies.RESUME(*where)}"


def check_lines(checked: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was checked, then what was found, errors first."""
    facts = checked["facts"]
    schema = checked["revision"] or "none"
    counts = ", ".join(counted(facts[key], key) for key in ("runs", "attempts", "charges") if key in facts)
    spent = f", {in_digits(facts['spent'], 4)} FLOPs spent" if facts else ""
    yield f"runs.db: schema {schema}" + (f", {counts}{spent}" if facts else "; its rows were not compared")
    yield f"storage: {describe(Storage(**checked['storage']))}"
    findings = sorted(checked["findings"], key=lambda finding: finding["level"] != "error")
    for finding in findings:
        remedy = f"; {finding['remedy']}" if finding["remedy"] else ""
        yield f"{finding['level']}: {finding['subject']}: {finding['what']}{remedy}"
    wrong = sum(finding["level"] == "error" for finding in findings)
    if wrong:
        yield f"{wrong} problem{'s' if wrong > 1 else ''} found"
    elif facts:
        yield "fine: runs.db is intact, and all charges match the journals"
    else:
        yield "no problem found"


def rebuild_lines(made: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield what was restored, then what was not. `where`: see `StudyContext.where`."""
    for path in made["aside"]:
        yield f"renamed: {path}"
    rows = f"{counted(made['runs'], 'runs')}, {counted(made['attempts'], 'attempts')}"
    yield f"runs.db: {rows}; {counted(made['jobs'], 'jobs')} in the queue"
    for note in made["notes"]:
        yield f"note: {note}"
    if made["lost"]:
        yield "not restored:"
    for line in made["lost"]:
        yield f"  {line}"
    yield f"nothing was submitted; the next update follows running jobs again; type: {remedies.STATUS(*where)}"
