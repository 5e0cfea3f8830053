"""Generations: which attempt owns a run. Claimed once each, consecutively; a newer claim fences off the older ones.

After a node failure the old process may live on beside its successor. It is not stopped (nobody can reach it), it is
fenced: before it publishes anything it looks whether a newer generation exists. Between looking and publishing there
is an instant, which is why names hold (generation, step) and nothing is ever pointed at by a shared name.
"""

import os
import time
from pathlib import Path

from lvjobs import files
from lvjobs.errors import Superseded
from lvjobs.records.claim import Claim
from lvjobs.study.layout import RunLayout
from lvjobs.worker.environment import JobEnvironment


def _number(path: Path) -> int:
    return int(path.name) if path.name.isdecimal() else 0


def newest_generation(layout: RunLayout) -> int:
    """The greatest generation that was claimed, 0 if none.

    Lists the directory instead of looking for one name: opening a directory makes an NFS client look at it afresh,
    where the absence of a single name may come from its cache.
    """
    try:
        return max(map(_number, layout.generations.iterdir()), default=0)
    except FileNotFoundError:
        return 0


def claim_generation(layout: RunLayout, environment: JobEnvironment) -> Claim:
    """Claim the next generation for this process. Of any number of processes that try, each gets one of its own."""
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
    """Whether a newer generation has claimed the run."""
    return newest_generation(layout) > generation


def check_fence(layout: RunLayout, generation: int) -> None:
    """Raise Superseded if a newer generation has claimed the run."""
    newest = newest_generation(layout)
    if newest > generation:
        raise Superseded(
            f"generation {newest} has claimed {layout.root}: generation {generation} publishes nothing more"
        )


def is_revoked(layout: RunLayout, token: str) -> bool:
    """Whether the submission that carries `token` may no longer train this run."""
    return bool(token) and (layout.revoked / token).exists()
