"""The allowance of a run: the steps that it may still execute, and the time for which it may hold GPUs.

Slurm may requeue a job many times, and each attempt repeats the steps since the last checkpoint. No reconcile pass need
run in between, so the worker itself has to stop when the run's allowance is used up.
"""

from collections.abc import Sequence

from lvjobs.records.journal import Entry, parse_entries, steps_of
from lvjobs.records.run_files import parse_generation
from lvjobs.study.layout import RunLayout
from lvjobs.worker.early_exit import Deadline
from lvjobs.worker.submission import Submission

_LARGEST_LEAD = 0.1
_LEAST_SECONDS = 60.0
"""Seconds of GPUs that are too few for another job."""


class AllowanceMeter:
    """The rest of a run's allowance for one generation. It reads files of others and writes nothing."""

    def __init__(self, layout: RunLayout, generation: int, submission: Submission, job_start: float) -> None:
        """Read the allowance for the first time. Raises the same errors as `refresh`.

        `job_start` is when the generation's job began to hold its GPUs (epoch seconds).
        """
        self._layout = layout
        self._own = layout.journal(generation)
        self._submission = submission
        self._job_start = job_start
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
        """Return whether no step is left once this generation has executed `executed` steps."""
        allowed = self._submission.allowance
        return allowed is not None and self._others + executed >= allowed

    @property
    def gpu_seconds_end(self) -> float | None:
        """Return when the allowance of GPU-seconds is used up (epoch seconds); None: there is no such limit."""
        allowed = self._submission.gpu_seconds
        if allowed is None:
            return None
        spans = [end - start for generation, (start, end) in self._spans.items() if generation >= allowed.before]
        return self._job_start + (allowed.seconds - allowed.spent) / allowed.gpus - sum(spans)

    def must_release_gpus(self, now: float, needed: float, lead: float) -> bool:
        """Return whether the time that is left is only enough to stop.

        Args:
            now: The time, in seconds since the epoch.
            needed: The seconds until the next step would be in a checkpoint.
            lead: The seconds that the run gets for its next checkpoint, at most a tenth of the time that its job has.
        """
        end = self.gpu_seconds_end
        if end is None:
            return False
        return now > end - max(needed, min(lead, _LARGEST_LEAD * max(0.0, end - self._job_start)))

    def ends_with(self, deadline: Deadline, now: float) -> bool:
        """Return whether the GPU-seconds are used up by the job's end, so that a requeued job could do nothing."""
        end = self.gpu_seconds_end
        return end is not None and end < (deadline.end or now) + _LEAST_SECONDS


def _began(entries: Sequence[Entry]) -> float:
    """Return when the job of a generation began to hold its GPUs, from the first lines of its journal."""
    started = next((entry.fields.get("job_start") for entry in entries if entry.kind == "start"), None)
    return float(started or entries[0].time)
