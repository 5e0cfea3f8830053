"""The worker's own deadline, for jobs that get no signal in time before their time limit."""

from dataclasses import dataclass

_LARGEST_SHARE = 0.1


@dataclass(frozen=True)
class Deadline:
    """The job's end (epoch seconds), its time limit and its lead (seconds): the run stops a lead before the end."""

    end: float | None
    limit: float | None
    lead: float

    def has_come(self, now: float, needed: float) -> bool:
        """Return whether to stop at `now` (epoch seconds), with `needed` seconds for a step and a checkpoint kept free.

        The lead is at most a tenth of the limit, so that a short job still trains.
        """
        if self.end is None:
            return False
        lead = self.lead if self.limit is None else min(self.lead, self.limit * _LARGEST_SHARE)
        return now > self.end - max(lead, needed)
