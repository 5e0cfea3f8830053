"""A test job's task on its node (`lvjobs doctor --job`) and its report. Formats only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lvjobs.records.run_files import JsonRecord

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
class Inside:
    """The content of a container, in a test job. `problem`: why it did not start, or torch's error; else empty."""

    problem: str = ""
    python: str = ""
    torch: str = ""
    devices: Sequence[str] = ()
    seconds: float = 0.0
    """The seconds until the container had answered."""


@dataclass(frozen=True)
class NodeReport(JsonRecord):
    """The findings of a job on its node. An empty problem means none; `torch` is None until it was asked.

    `paths`: the problem with each path that the job had to check. `gpus`: the lines of `nvidia-smi -L`. `knows_itself`:
    Slurm's error where the job could not query itself; `submits`: the reason where Slurm would accept no job from
    there. `time` is in seconds since the epoch. `container` is None where the study has none.
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
    container: Inside | None = None
    torch: Torch | None = field(kw_only=True)

    def __post_init__(self) -> None:
        """Read `torch` and `container` from JSON."""
        if isinstance(self.torch, Mapping):
            object.__setattr__(self, "torch", Torch(**self.torch))
        if isinstance(self.container, Mapping):
            object.__setattr__(self, "container", Inside(**self.container))
