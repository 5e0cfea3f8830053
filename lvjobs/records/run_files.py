"""The records that have a file of their own: a generation's claim, checkpoints, the done marker and the allowance."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from lvjobs.files import json_text
from lvjobs.foreign import clean
from lvjobs.records.journal import CLAIM, Entry

Record = TypeVar("Record", bound="JsonRecord")


@dataclass(frozen=True)
class JsonRecord:
    """A record whose fields are the keys of a JSON object."""

    def to_json(self) -> str:
        """Return one JSON object as text."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls: type[Record], text: str) -> Record:  # noqa: PYI019 - Self is not in Python 3.10
        """Return the record that `to_json` wrote. Raises ValueError when the text is not one."""
        try:
            return cls(**clean(json.loads(text)))
        except TypeError as error:
            raise ValueError(f"not of the format of {cls.__name__}: {error}") from None


@dataclass(frozen=True)
class Claim(JsonRecord):
    """The attempt that owns a generation: the first line of its journal, written once.

    `job_id` is Slurm's (`123` or `123_4`). `restart_count` is 0 in a job's first execution. `time` is in seconds since
    the epoch.
    """

    generation: int
    token: str
    job_id: str
    restart_count: int
    host: str
    pid: int
    time: float

    def to_line(self) -> str:
        """Return the claim as the first line of its generation's journal."""
        return Entry(CLAIM, self.time, {key: value for key, value in asdict(self).items() if key != "time"}).to_line()

    @classmethod
    def read(cls, path: Path) -> "Claim":
        """Read the claim with which a generation's file begins: its journal, or an older release's file of its own.

        Raises:
            OSError: the file cannot be read.
            ValueError: it begins with no claim.
        """
        with path.open(encoding="utf-8", errors="replace") as stream:
            beginning = stream.read(_LONGEST_CLAIM)
        try:
            value, _ = json.JSONDecoder().raw_decode(beginning)
            return cls(**{key: item for key, item in clean(value).items() if key != "kind"})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{path} begins with no claim: {error}") from None


_LONGEST_CLAIM = 4096
"""More characters than a claim has."""

_GENERATION = re.compile(r"(\d{6,})(\.jsonl)?\Z")


def parse_generation(name: str) -> int | None:
    """Return the generation that a file beside the claims belongs to, or None for any other entry."""
    match = _GENERATION.match(name)
    return int(match[1]) if match else None


MANIFEST = "manifest.json"
"""The manifest of a checkpoint that is a directory: of an older release, or of another program."""

CHECKPOINT_SUFFIX = ".safetensors"
"""The end of the name of a checkpoint that is one file."""

_NAME = re.compile(rf"(\d{{6}})-(\d{{8}})({re.escape(CHECKPOINT_SUFFIX)})?\Z")


@dataclass(frozen=True, order=True)
class CheckpointName:
    """A checkpoint's (generation, step). Ordered: the newest checkpoint is the greatest that is valid."""

    generation: int
    step: int

    def __str__(self) -> str:
        return f"{self.generation:06d}-{self.step:08d}"


def parse_checkpoint_name(text: str) -> CheckpointName | None:
    """Return the name of a published checkpoint, file or directory, or None for any other entry beside them."""
    match = _NAME.match(text)
    return CheckpointName(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Manifest(JsonRecord):
    """The manifest of a checkpoint: its content by SHA-256 (hex), and the metrics known at its step.

    A checkpoint is complete or absent: `files` lists the files in it by their relative paths, those that Savers wrote
    and, in a directory, all others. `time` is in seconds since the epoch. `final`: the run ended with it, although its
    configuration has more steps. `processes` is how many trained it together.

    A chain ties each checkpoint to what came before. `parent` is the hash of the checkpoint that its attempt resumed
    from or wrote before; it is empty for the first. `journal_bytes` and `journal_sha256` are of the beginning of its
    generation's journal. Older releases (`format` 1) wrote no chain.
    """

    generation: int
    step: int
    files: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    time: float = 0.0
    final: bool = False
    processes: int = 1
    format: int = 1
    parent: str = ""
    journal_bytes: int = 0
    journal_sha256: str = ""

    @property
    def saved(self) -> dict[str, str]:
        """Return the files that Savers wrote, with their SHA-256."""
        return {file: digest for file, digest in self.files.items() if "/" in file}


@dataclass(frozen=True)
class Done(JsonRecord):
    """A finished run: the generation and step it ended at, the checkpoint its weights came from, its last metrics.

    `files` has the SHA-256 of each file in `final/`; older releases wrote these to `final/manifest.json`. The marker is
    written once, durably; a worker that finds it trains no more.
    """

    generation: int
    step: int
    checkpoint: str
    time: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Allowance(JsonRecord):
    """The training steps that a run may execute, over all its attempts: useful steps and those that were lost.

    Reconcile passes write it (`allowance.json`), and the worker obeys it.
    """

    training: int

    def __post_init__(self) -> None:
        """Refuse what is no number: a run must not train without a limit."""
        if not isinstance(self.training, int):
            raise TypeError(f"{self.training!r} is no number of steps")
