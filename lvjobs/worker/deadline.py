"""The deadline that the worker makes for itself, where no signal tells it in time that its time limit is near."""

from dataclasses import dataclass

_LARGEST_SHARE = 0.1


@dataclass(frozen=True)
class Deadline:
    """When the job ends, how long it was given, and how long before the end the run wants to leave."""

    end: float | None
    limit: float | None
    lead: float

    def has_come(self, now: float, needed: float) -> bool:
        """Whether to leave at `now`: `needed` seconds (a step and a checkpoint) are kept free whatever the lead says.

        The lead is at most a tenth of the limit: a short job is for training, not for leaving.
        """
        if self.end is None:
            return False
        lead = self.lead if self.limit is None else min(self.lead, self.limit * _LARGEST_SHARE)
        return now > self.end - max(lead, needed)
