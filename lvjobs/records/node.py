"""A test job's task on its node (`lvjobs doctor --job`) and its report. Formats only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lvjobs.foreign import clean

ORDER, REPORT, SCRIPT = "look.json", "node.json", "again.sh"
"""Files in the job's directory: its task, its report, and a batch script about which it asks Slurm."""


@dataclass(frozen=True)
class Torch:
    """Torch's report on the node's GPUs. `cuda`: the version it was built for, None for CPUs; `problem`: if any."""

    version: str = ""
    cuda: str | None = None
    devices: Sequence[str] = ()
    problem: str = ""
    seconds: float = 0.0
    """The seconds to import torch and to initialise its devices."""


@dataclass(frozen=True)
class NodeReport:
    """The findings of a job on its node. An empty problem means none; `torch` is None until it was asked.

    `paths`: the problem with each path that the job had to check. `gpus`: the lines of `nvidia-smi -L`. `knows_itself`:
    Slurm's error where the job could not query itself; `submits`: the reason where Slurm would accept no job from
    there. `time` is in seconds since the epoch.
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
        """Return the report as JSON holds it."""
        return asdict(self)


def parse_report(text: str) -> NodeReport:
    """Return the report that `NodeReport.to_dict` gave as JSON. Raises ValueError when the text is not one."""
    try:
        values = clean(json.loads(text))
        torch = values.pop("torch")
        return NodeReport(**values, torch=None if torch is None else Torch(**torch))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no report of a test job: {error}") from None
