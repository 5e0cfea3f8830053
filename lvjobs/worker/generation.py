"""Generations: which attempt owns a run.

Each generation is claimed once, consecutively; a newer claim fences off older ones. After a node failure the old
process may run on beside its successor. It cannot be reached and stopped, so it is fenced: before it publishes
anything, it checks whether a newer generation exists. A moment passes between check and publication. Therefore names
hold (generation, step), and no shared name ever points at a result.
"""

import os
import time

from lvjobs import files
from lvjobs.errors import Superseded
from lvjobs.records.run_files import Claim, parse_generation
from lvjobs.study.layout import RunLayout
from lvjobs.worker.environment import JobEnvironment


def newest_generation(layout: RunLayout) -> int:
    """Return the greatest generation that was claimed, 0 if none."""
    return max((parse_generation(name) or 0 for name in files.names_in(layout.generations)), default=0)


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
        text = claim.to_json() if layout.is_older else claim.to_line()
        if files.create_exclusive(layout.generation(claim.generation), text):
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
