"""The output of a run's jobs: the log file of its latest job that has one."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvjobs.control.reconcile.observe import read_claims
from lvjobs.foreign import cleaned
from lvjobs.study.config import StudyContext


def newest_log(study: StudyContext, row: Mapping[str, Any]) -> Path | None:
    """Return the newest log of the run in this row of a summary; None if no job of the run has a log.

    Logs are named by job id. The row's job is tried first, then the jobs that claimed the run, newest first.
    """
    claims = read_claims(study.layout.run(row["name"]), known=frozenset())
    for job in filter(None, [row["job_id"], *(claim.job_id for claim in reversed(claims))]):
        found = sorted(study.layout.logs.glob(f"*/{job}.out"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1]
    return None


def all_logs(study: StudyContext, row: Mapping[str, Any]) -> dict[int, Path]:
    """Return the logs of a run's attempts by the attempt's number, oldest first; jobs without a log are left out.

    Attempts of one job share its log: a requeued job appends to it.
    """
    found = {}
    for number, claim in enumerate(read_claims(study.layout.run(row["name"]), known=frozenset()), start=1):
        paths = sorted(study.layout.logs.glob(f"*/{claim.job_id}.out"), key=lambda path: path.stat().st_mtime)
        if paths:
            found[number] = paths[-1]
    return found


def last_lines(path: Path, most: int) -> list[str]:
    """Return the last lines of a log, at most `most`, cleaned, without newlines. Bytes that are not text are replaced.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(errors="replace", encoding="utf-8") as stream:
        return [cleaned(line.rstrip("\n")) for line in deque(stream, maxlen=most)]
