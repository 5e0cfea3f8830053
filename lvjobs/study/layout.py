"""The paths of a study's and a run's files. Nothing here reads a file's content, or writes.

study/
  study.toml  runs.db
  logs/<run>/<job>.out
  checkpoints/<run>/           the run directory, made by the run's first worker
    run.json                   configuration, immutable
    000001.jsonl               generation 1: the claim of its attempt, then its journal, append-only
    000001-00000250.safetensors  a checkpoint: (generation, step)
    parent/                    the checkpoint that it continues from, if that is another run's
    final/                     the finished run's weights (adapter in PEFT's format)
    done.json                  the done marker
  checkpoints/<run>.tar        a run directory that `lvjobs archive` has packed, in its place
  .lvjobs/
    ledger.log                 a copy of what runs.db holds, for `lvjobs ledger rebuild` (lvjobs.ledger.log)
    submissions/<token>.jsonl  what the workers of one sbatch are to train (lvjobs.records.submission)
    submissions/<token>/       its script
    lease/  study.json  summary.json  closed_runs.json  code/<hash>/
    profiles/<hash>/           a profile that is a file of the user's, as it was submitted, under its own name
    packages/<hash>.txt        packages that attempts ran with, each list once (lvjobs.records.software)

In a run directory that an older release made, some of these have a directory of their own, for good: an attempt of that
release may still run, and looks there for newer generations.

    generations/000001         the claim
    journals/000001.jsonl      the journal
    steps/000001-00000250/     a checkpoint, with manifest.json
    revoked/<token>            submissions without a file that may no longer train this run
    allowance.json             how many steps such a submission may execute in all
    ledger.json                what runs.db held of the run
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_ARCHIVE = ".tar"


class _Below:
    """An attribute of a layout: a path below its root. It is made when it is first used."""

    def __init__(self, relative: str) -> None:
        self._relative = relative

    def __set_name__(self, _kind: type, name: str) -> None:
        self._name = name

    def __get__(self, layout: "RunLayout | StudyLayout", _kind: type) -> Path:
        path = layout.root / self._relative
        vars(layout)[self._name] = path  # Python finds it there the next time
        return path


class _OwnIfOlder:
    """An attribute of a run's layout: a directory of an older release's run directory, else the run directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, layout: "RunLayout", _kind: type) -> Path:
        return layout.root / self._name if layout.is_older else layout.root


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run's files."""

    root: Path

    config = _Below("run.json")
    memo = _Below("ledger.json")
    generations = _OwnIfOlder("generations")
    journals = _OwnIfOlder("journals")
    steps = _OwnIfOlder("steps")
    revoked = _Below("revoked")
    allowance = _Below("allowance.json")
    parent = _Below("parent")
    final = _Below("final")
    done = _Below("done.json")

    @cached_property
    def is_older(self) -> bool:
        """Return whether an older release made the run directory: it made this directory for claims, too."""
        return (self.root / "generations").is_dir()

    def note_names(self, names: Collection[str]) -> None:
        """Keep from the run directory's listed `names` what decides `is_older`: then that is not looked up by name."""
        vars(self)["is_older"] = "generations" in names

    @property
    def study(self) -> "StudyLayout":
        """Return the paths of the study that the run belongs to."""
        return StudyLayout(self.root.parent.parent)

    def generation(self, number: int) -> Path:
        """Return the path of a generation's claim."""
        return self.generations / f"{number:06d}" if self.is_older else self.journal(number)

    def journal(self, generation: int) -> Path:
        """Return the path of a generation's journal."""
        return self.journals / f"{generation:06d}.jsonl"


@dataclass(frozen=True)
class StudyLayout:
    """The paths of one study's files."""

    root: Path

    config = _Below("study.toml")
    database = _Below("runs.db")
    checkpoints = _Below("checkpoints")
    logs = _Below("logs")
    internal = _Below(".lvjobs")
    lease = _Below(".lvjobs/lease")
    ledger_log = _Below(".lvjobs/ledger.log")
    place = _Below(".lvjobs/study.json")
    summary = _Below(".lvjobs/summary.json")
    code = _Below(".lvjobs/code")
    packages = _Below(".lvjobs/packages")
    submissions = _Below(".lvjobs/submissions")
    local_jobs = _Below(".lvjobs/local")

    def submission(self, token: str) -> Path:
        return self.submissions / f"{token}.jsonl"

    def profile_copy(self, digest: str, profile: str) -> Path:
        return self.internal / "profiles" / digest / Path(profile).name

    def run(self, name: str) -> RunLayout:
        return RunLayout(self.checkpoints / name)

    def archive(self, name: str) -> Path:
        """Return the path of the file into which a finished run's directory is packed."""
        return self.checkpoints / f"{name}{_ARCHIVE}"

    def archived(self) -> list[str]:
        """Return the names of the runs that are packed into one file each."""
        return sorted(path.name.removesuffix(_ARCHIVE) for path in self.checkpoints.glob(f"*{_ARCHIVE}"))

    def log_directory(self, name: str) -> Path:
        return self.logs / name
