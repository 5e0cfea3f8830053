"""Generations: which attempt owns a run, and how much it may still execute.

Each generation is claimed once, consecutively; a newer claim fences off older ones. After a node failure the old
process may run on beside its successor. It cannot be reached and stopped, so it is fenced: before it publishes
anything, it checks whether a newer generation exists. A moment passes between check and publication. Therefore names
hold (generation, step), and no shared name ever points at a result.

Slurm may requeue a job many times, and each attempt repeats the steps since the last checkpoint. No reconcile pass need
run in between, so the worker itself has to stop when the run's allowance is used up.
"""

import os
import time
from pathlib import Path

from lvjobs import files, remedies
from lvjobs.errors import RunRefused, Superseded
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import Allowance, Claim
from lvjobs.study.layout import RunLayout
from lvjobs.worker.environment import JobEnvironment


def _number(path: Path) -> int:
    return int(path.name) if path.name.isdecimal() else 0


def newest_generation(layout: RunLayout) -> int:
    """Return the greatest generation that was claimed, 0 if none.

    This lists the directory instead of checking one name: opening a directory makes an NFS client refresh it, while the
    absence of a single name may come from its cache.
    """
    try:
        return max(map(_number, layout.generations.iterdir()), default=0)
    except FileNotFoundError:
        return 0


def claim_generation(layout: RunLayout, environment: JobEnvironment) -> Claim:
    """Claim the next generation for this process. Of several processes that try at once, each gets a different one."""
    files.make_directory(layout.generations)
    while True:
        claim = Claim(
            generation=newest_generation(layout) + 1,
            token=environment.token,
            job_id=environment.job_id,
            restart_count=environment.restart_count,
            host=os.uname().nodename,
            pid=os.getpid(),
            time=time.time(),
        )
        if files.create_exclusive(layout.generation(claim.generation), claim.to_json()):
            return claim


def is_superseded(layout: RunLayout, generation: int) -> bool:
    """Return whether a newer generation has claimed the run."""
    return newest_generation(layout) > generation


def check_fence(layout: RunLayout, generation: int) -> None:
    """Raise Superseded if a newer generation has claimed the run."""
    newest = newest_generation(layout)
    if newest > generation:
        raise Superseded(
            f"generation {newest} has claimed {layout.root}: generation {generation} publishes nothing more"
        )


def is_revoked(layout: RunLayout, token: str) -> bool:
    """Return whether the submission that carries `token` may no longer train this run."""
    return bool(token) and (layout.revoked / token).exists()


class AllowanceMeter:
    """The rest of a run's allowance for one generation. It reads files of others and writes nothing."""

    def __init__(self, layout: RunLayout, generation: int) -> None:
        """Read the allowance for the first time. Raises the same errors as `refresh`."""
        self._layout = layout
        self._own = layout.journal(generation)
        self._offsets: dict[str, int] = {}
        self._others = 0
        self._allowed: int | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the allowance, which may have been renewed, and the steps that other generations executed since.

        Raises:
            OSError: the file system does not answer now.
            RunRefused: the allowance cannot be parsed. A run without one (its study set no budget) has no limit.
        """
        try:
            self._allowed = Allowance.from_json(self._layout.allowance.read_text(encoding="utf-8")).training
        except FileNotFoundError:
            self._allowed = None
        except ValueError as error:
            raise RunRefused(
                f"{self._layout.allowance}: what this run may spend cannot be read ({error}); see that the disk is "
                f"there, then: {remedies.RESUME_RUN(run=self._layout.root.name)}"
            ) from None
        for path in self._layout.journals.glob("*.jsonl"):
            offset = self._offsets.get(path.name, 0)
            if path == self._own or path.stat().st_size <= offset:
                continue
            with path.open("rb") as stream:
                stream.seek(offset)
                entries, consumed = parse_entries(stream.read())
            self._offsets[path.name] = offset + consumed
            self._others += sum(entry.kind == "step" for entry in entries)

    def is_used_up(self, executed: int) -> bool:
        """Return whether the allowance is used up once this generation has executed `executed` steps."""
        return self._allowed is not None and self._others + executed >= self._allowed
