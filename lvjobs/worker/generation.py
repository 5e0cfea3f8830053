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
from collections.abc import Sequence

from lvjobs import files
from lvjobs.errors import Superseded
from lvjobs.records.journal import Entry, parse_entries, steps_of
from lvjobs.records.run_files import Claim, parse_generation
from lvjobs.study.layout import RunLayout
from lvjobs.worker.environment import JobEnvironment
from lvjobs.worker.submission import Submission


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


class AllowanceMeter:
    """The rest of a run's allowance for one generation. It reads files of others and writes nothing."""

    def __init__(self, layout: RunLayout, generation: int, submission: Submission) -> None:
        """Read the allowance for the first time. Raises the same errors as `refresh`."""
        self._layout = layout
        self._own = layout.journal(generation)
        self._submission = submission
        self._offsets: dict[str, int] = {}
        self._others = 0
        self._spans: dict[int, tuple[float, float]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the steps that other generations executed since the last time, and how long their jobs lasted.

        Raises:
            OSError: the file system does not answer now.
        """
        for path in self._layout.journals.glob("*.jsonl"):
            offset = self._offsets.get(path.name, 0)
            if path == self._own or path.stat().st_size <= offset:
                continue
            with path.open("rb") as stream:
                stream.seek(offset)
                entries, consumed = parse_entries(stream.read())
            self._offsets[path.name] = offset + consumed
            self._others += sum(map(steps_of, entries))
            if entries and (generation := parse_generation(path.name)):
                began, _ = self._spans.get(generation, (_began(entries), 0.0))
                self._spans[generation] = began, entries[-1].time

    def is_used_up(self, executed: int) -> bool:
        """Return whether the allowance is used up once this generation has executed `executed` steps."""
        allowed = self._submission.allowance
        return allowed is not None and self._others + executed >= allowed

    def gpu_seconds_end(self, began: float) -> float | None:
        """Return when the run's allowance of GPU-seconds is used up, by a job that `began` then (epoch seconds).

        None: there is no such limit.
        """
        allowed = self._submission.gpu_seconds
        if allowed is None:
            return None
        spans = [end - start for generation, (start, end) in self._spans.items() if generation >= allowed.before]
        return began + (allowed.seconds - allowed.spent) / allowed.gpus - sum(spans)


def _began(entries: Sequence[Entry]) -> float:
    """Return when the job of a generation began to hold its GPUs, from the first lines of its journal."""
    started = next((entry.fields.get("job_start") for entry in entries if entry.kind == "start"), None)
    return float(started or entries[0].time)
