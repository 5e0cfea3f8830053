"""A generation's claim: the content of `generations/NNNNNN`, written once by the attempt that won it."""

import json
from dataclasses import asdict, dataclass

from lvjobs.foreign import clean


@dataclass(frozen=True)
class Claim:
    """The attempt that executes a run. `job_id` is Slurm's (`123` or `123_4`).

    `restart_count` is 0 in a job's first execution. `time` is in seconds since the epoch.
    """

    generation: int
    token: str
    job_id: str
    restart_count: int
    host: str
    pid: int
    time: float

    def to_json(self) -> str:
        """Return one JSON object as text."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def parse_claim(text: str) -> Claim:
    """Return the claim that `Claim.to_json` wrote. Raises ValueError when the text is not one."""
    try:
        return Claim(**clean(json.loads(text)))
    except TypeError as error:
        raise ValueError(f"not a claim: {error}") from None
