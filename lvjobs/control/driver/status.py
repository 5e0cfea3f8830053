"""The driver's status: its jobs, what the site allows, and the crontab entry for a site that allows no driver."""

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import backend_of, defaults_of
from lvjobs.cluster.crontab import find_entries
from lvjobs.cluster.protocol import DRIVER, ClusterError, Job
from lvjobs.cluster.states import JobHold
from lvjobs.control.backends import driver_name, driver_profile
from lvjobs.control.driver.driver import driven, find_jobs, standing
from lvjobs.control.session import Session
from lvjobs.control.summary_file import read_summary
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext

_SHOWN = ("id", "state", "reason", "start")


def report(session: Session) -> dict[str, Any]:
    """Return the driver's jobs, the reasons if there are none, the crontab entries, and what this site allows.

    See docs/json.md. `scrontab` (whether the site offers it) is not documented there.
    """
    study = session.study
    with session.ledger.transaction() as transaction:
        kept, left = standing(transaction), driven(transaction.runs(only_open=True))
    last = read_summary(study.layout.summary)
    may_run = bool(backend_of(study.config.profile).driver_profile or left)
    jobs = find_jobs(session) if may_run else ()
    keep = f"no Slurm, so keep {remedies.WATCH(*study.where)} running"
    site, scrontab = _ways(session) if may_run else ([keep], False)
    return {
        "name": driver_name(study),
        "enabled": study.config.driver.job,
        "stopped": kept.stopped,
        "refused": kept.refused,
        "left": len(left),
        "jobs": jobs
        if jobs is None
        else [{key: getattr(job, key) for key in _SHOWN} for job in jobs if not job.is_ended],
        "cron": find_entries(driver_name(study)),
        "site": site,
        "scrontab": scrontab,
        "last_pass": None if last is None else float(last["time"]),
    }


def job_lines(shown: Mapping[str, Any], now: float) -> list[str]:
    """Return a line for each of the driver's jobs in a report: what it does, or waits for."""
    return [_line(Job(row["id"], "", 0, row["state"], row["reason"], row["start"]), now) for row in shown["jobs"] or ()]


def _line(job: Job, now: float) -> str:
    if job.is_running:
        return f"job {job.id} is updating the study now"
    if job.hold is JobHold.BEGIN_TIME and job.start:
        return f"job {job.id} makes the next update in {max(0, job.start - now):.0f} s, or when a run ends"
    if job.hold is JobHold.DEPENDENCY:
        return f"job {job.id} is on standby"
    return f"job {job.id} is {job.state.lower()}" + (f" ({job.reason})" if job.reason else "")


def _ways(session: Session) -> tuple[list[str], bool]:
    """Return lines on what the site allows, and whether it offers scrontab."""
    try:
        site = session.cluster(driver_profile(session.study)).probe()
    except ClusterError as error:
        return [f"did not answer ({error})"], False
    hold = site.requeue_hold_seconds
    held = f"a job that requeues itself is held for {hold:.0f} s, so updates are that far apart" if hold else ""
    return [*filter(None, (held,)), *site.ways], site.scrontab


def cron_entry(study: StudyContext, minutes: int, *, of_slurm: bool) -> tuple[str, list[str]]:
    """Return the name and the lines of a crontab entry that makes a pass every so many minutes.

    `of_slurm`: the entry is for scrontab, with the driver's options in #SCRON lines.

    Raises:
        UsageError: a path contains a % or a newline, which no crontab can carry.
    """
    log = study.layout.log_directory(DRIVER) / "cron.out"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # cron's own environment is almost empty
    known = [f"{name}={os.environ[name]}" for name in ("PATH", "PYTHONPATH", "SLURM_CONF") if name in os.environ]
    command = ["env", *known, sys.executable, "-m", "lvjobs", "driver", "run", "--study", str(study.root)]
    if any(character in part for part in (*command, str(log)) for character in "%\n"):
        raise UsageError(f"{study.root}: crontab cannot contain a path with %; move the study elsewhere")
    when = "*" if minutes == 1 else f"*/{minutes}"  # scrontab does not accept */1
    line = f"{when} * * * * cd / && {shlex.join(command)} >>{shlex.quote(str(log))} 2>&1"
    if not of_slurm:
        return driver_name(study), [line]
    own = study.config.driver.variables()
    asked = {**defaults_of(study.config.profile), **study.config.resources.variables(), **own}
    options = [f"--{key}={asked[key]}" for key in ("partition", "account", "qos") if asked.get(key)]
    options += [f"--job-name={DRIVER}", "--time=15", "--mem=1000M"]
    return driver_name(study), [f"#SCRON {shlex.quote(option)}" for option in options] + [line]
