"""The scripts that submitit filed: which job a submission became, and how many members it has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.cluster.protocol import Job

_SCRIPT = re.compile(r"(\d+)_submission\.sh\Z")
_ARRAY = re.compile(r"^#SBATCH --array=0-(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class FiledJob:
    """A submission whose job id is known."""

    id: str
    members: int


def filed_job(folder: Path) -> FiledJob | None:
    """What was submitted from `folder`; None where sbatch never told an id."""
    try:
        names = [match for path in folder.iterdir() if (match := _SCRIPT.match(path.name))]
        if not names:
            return None
        last = max(names, key=lambda match: int(match[1]))
        array = _ARRAY.search((folder / last[0]).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return FiledJob(last[1], int(array[1]) + 1 if array else 1)


def overlooked(filed: Mapping[str, FiledJob], seen: Sequence[Job]) -> list[str]:
    """Return the ids of our jobs of which neither squeue nor sacct has told everything.

    sacct leaves out, unless asked for them by id, jobs that were cancelled before they were ever eligible, such as
    the members of a throttled array: after MinJobAge they would seem never to have been.
    """
    members: dict[str, set[int]] = {}
    for job in seen:
        members.setdefault(job.token, set()).add(job.member)
    return [job.id for token, job in filed.items() if len(members.get(token, ())) < job.members]
