"""Submissions as the backends' own files have them: for a ledger that is lost. Reads only."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lvjobs.cluster.filed import filed_job
from lvjobs.cluster.local_files import jobs_in
from lvjobs.cluster.protocol import TOKEN

_DIRECTORIES = re.compile(r"^RUN_DIRECTORIES=\(\n(.*?)^\)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class SentJob:
    """One submission: its members' run directories in their order, and its job, where sbatch told one."""

    token: str
    backend: str
    run_directories: tuple[Path, ...]
    created: float
    job_id: str | None = None


def sent_locally(directory: Path) -> Iterator[SentJob]:
    """The local backend's jobs."""
    for job in jobs_in(directory):
        spec = job.spec()
        members = tuple(Path(path) for path in spec.run_directories)
        yield SentJob(spec.token, "local", members, spec.submitted, job.id)


def sent_to_slurm(submissions: Path) -> Iterator[SentJob]:
    """What was handed to sbatch, by the scripts that were kept; those that name no run directories are passed over."""
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
    """The run directories that a script of lvjobs names, in the order of its members. Pure."""
    found = _DIRECTORIES.search(script)
    return tuple(Path(word) for word in shlex.split(found[1])) if found else ()
