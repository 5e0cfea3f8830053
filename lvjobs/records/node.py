"""What a test job sees of its node (`lvjobs doctor --job`): what it is to look at, and its report. Formats only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lvjobs.foreign import clean

ORDER, REPORT, SCRIPT = "look.json", "node.json", "again.sh"
"""In the job's directory: what it is asked, what it answers, and a batch script that it asks Slurm about."""


@dataclass(frozen=True)
class Torch:
    """What torch says of the node's GPUs. `cuda`: what it was built for, None for CPUs alone; `problem`: if any."""

    version: str = ""
    cuda: str | None = None
    devices: Sequence[str] = ()
    problem: str = ""
    seconds: float = 0.0
    """To import it, and to begin with its devices."""


@dataclass(frozen=True)
class NodeReport:
    """What a job found on its node. A complaint that is empty is none; `torch` is None until it was asked.

    `paths`: what is wrong with each path that it was to look at. `gpus`: the lines of `nvidia-smi -L`. `knows_itself`:
    Slurm's complaint where it did not tell the job of itself; `submits`: where it would take no job from there.
    """

    host: str
    node: str = ""
    time: float = 0.0
    python: str = ""
    code: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    scratch: str = ""
    scratch_bytes: int = 0
    scratch_problem: str = ""
    visible: str | None = None
    gpus: Sequence[str] = ()
    gpu_problem: str = ""
    knows_itself: str = ""
    submits: str = ""
    torch: Torch | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def parse_report(text: str) -> NodeReport:
    """Read a report. Raises ValueError: it is none."""
    try:
        values = clean(json.loads(text))
        torch = values.pop("torch")
        return NodeReport(**values, torch=None if torch is None else Torch(**torch))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no report of a test job: {error}") from None
