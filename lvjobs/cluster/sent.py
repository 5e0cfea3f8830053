"""Submissions in the backends' own files, and the job id of each. Reads only."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.cluster.local_files import jobs_in
from lvjobs.cluster.protocol import TOKEN, Job

_SCRIPT = re.compile(r"(\d+)_submission\.sh\Z")
_ARRAY = re.compile(r"^#SBATCH --array=0-(\d+)", re.MULTILINE)
_DIRECTORIES = re.compile(r"^RUN_DIRECTORIES=\(\n(.*?)^\)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class FiledJob:
    """A submission whose job id is known."""

    id: str
    members: int


def filed_job(folder: Path) -> FiledJob | None:
    """Return the job that was submitted from `folder`; None where sbatch never reported an id."""
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
    """Return the ids of lvjobs' jobs of which squeue and sacct have not reported every member.

    sacct omits, unless asked by id, jobs that were cancelled before they became eligible, such as the members of a
    throttled array. After MinJobAge they would seem never to have existed.
    """
    members: dict[str, set[int]] = {}
    for job in seen:
        members.setdefault(job.token, set()).add(job.member)
    return [job.id for token, job in filed.items() if len(members.get(token, ())) < job.members]


@dataclass(frozen=True)
class SentJob:
    """One submission: its members' run directories in order, and its job id, where sbatch reported one.

    `created` is in seconds since the epoch.
    """

    token: str
    backend: str
    run_directories: tuple[Path, ...]
    created: float
    job_id: str | None = None


def sent_jobs(local_jobs: Path, submissions: Path) -> Iterator[SentJob]:
    """Yield everything that a study submitted to any backend. Scripts that name no run directories are skipped."""
    for job in jobs_in(local_jobs):
        spec = job.spec()
        members = tuple(Path(path) for path in spec.run_directories)
        yield SentJob(spec.token, "local", members, spec.submitted, job.id)
    for folder in sorted(submissions.glob("*")):
        scripts = sorted(folder.glob("*.sh"))
        if not TOKEN.match(folder.name) or not scripts:
            continue
        members = directories_of(scripts[-1].read_text(encoding="utf-8", errors="replace"))
        if members:
            filed = filed_job(folder)
            created = scripts[-1].stat().st_mtime
            yield SentJob(folder.name, "slurm", members, created, filed.id if filed else None)


def directories_of(script: str) -> tuple[Path, ...]:
    """Return the run directories that a script of lvjobs names, in the order of its members. Pure."""
    found = _DIRECTORIES.search(script)
    return tuple(Path(word) for word in shlex.split(found[1])) if found else ()
