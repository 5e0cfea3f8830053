"""Generations: which attempt owns a run. Each is claimed once, consecutively; a newer claim fences off older ones.

After a node failure the old process may run on beside its successor. It cannot be reached and stopped, so it is fenced:
before it publishes anything, it checks whether a newer generation exists. A moment passes between check and
publication. Therefore names hold (generation, step), and no shared name ever points at a result.
"""

import os
import time
from pathlib import Path

from lvjobs import files
from lvjobs.errors import Superseded
from lvjobs.records.run_files import Claim
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
