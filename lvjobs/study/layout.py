"""The paths of a study's and a run's files. Nothing here reads or writes.

study/
  study.toml  runs.db
  logs/<run>/<job>.out
  checkpoints/<run>/           the run directory
    run.json                   configuration, immutable
    ledger.json                the rest of what runs.db knows of it, for `lvjobs ledger rebuild`
    (lvjobs.ledger.backup_record)
    generations/000001         the attempt that claimed the run, one file each (lvjobs.worker.generation)
    journals/000001.jsonl      the journal of that generation, append-only
    steps/000001-00000250/     a checkpoint: (generation, step), with manifest.json
    revoked/<token>            submissions that may no longer train this run
    allowance.json             how many steps it may execute in all (lvjobs.worker.generation)
    final/                     the finished run's weights (adapter in PEFT's format)
    done.json                  the done marker
  .lvjobs/
    lease/  study.json  summary.json  closed_runs.json  code/<hash>/  submissions/<token>/
    profiles/<hash>/           a profile that is a file of the user's, as it was submitted, under its own name
"""

from dataclasses import dataclass
from pathlib import Path


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


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run's files."""

    root: Path

    config = _Below("run.json")
    memo = _Below("ledger.json")
    generations = _Below("generations")
    journals = _Below("journals")
    steps = _Below("steps")
    revoked = _Below("revoked")
    allowance = _Below("allowance.json")
    final = _Below("final")
    done = _Below("done.json")

    def generation(self, number: int) -> Path:
        return self.generations / f"{number:06d}"

    def journal(self, generation: int) -> Path:
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
    place = _Below(".lvjobs/study.json")
    summary = _Below(".lvjobs/summary.json")
    code = _Below(".lvjobs/code")
    submissions = _Below(".lvjobs/submissions")
    local_jobs = _Below(".lvjobs/local")

    def profile_copy(self, digest: str, profile: str) -> Path:
        return self.internal / "profiles" / digest / Path(profile).name

    def run(self, name: str) -> RunLayout:
        return RunLayout(self.checkpoints / name)

    def log_directory(self, name: str) -> Path:
        return self.logs / name
