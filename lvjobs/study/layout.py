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
    allowance.json             how many steps it may execute in all (lvjobs.worker.allowance)
    final/                     the finished run's weights (adapter in PEFT's format)
    done.json                  the done marker
  .lvjobs/
    lease/  study.json  summary.json  closed.json  code/<hash>/  submissions/<token>/
    profiles/<hash>/           a profile that is a file of the user's, as it was submitted, under its own name
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run's files."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "run.json"

    @property
    def memo(self) -> Path:
        return self.root / "ledger.json"

    @property
    def generations(self) -> Path:
        return self.root / "generations"

    @property
    def journals(self) -> Path:
        return self.root / "journals"

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    @property
    def revoked(self) -> Path:
        return self.root / "revoked"

    @property
    def allowance(self) -> Path:
        return self.root / "allowance.json"

    @property
    def final(self) -> Path:
        return self.root / "final"

    @property
    def done(self) -> Path:
        return self.root / "done.json"

    def generation(self, number: int) -> Path:
        return self.generations / f"{number:06d}"

    def journal(self, generation: int) -> Path:
        return self.journals / f"{generation:06d}.jsonl"


@dataclass(frozen=True)
class StudyLayout:
    """The paths of one study's files."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "study.toml"

    @property
    def database(self) -> Path:
        return self.root / "runs.db"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def internal(self) -> Path:
        return self.root / ".lvjobs"

    @property
    def lease(self) -> Path:
        return self.internal / "lease"

    @property
    def place(self) -> Path:
        return self.internal / "study.json"

    @property
    def summary(self) -> Path:
        return self.internal / "summary.json"

    @property
    def code(self) -> Path:
        return self.internal / "code"

    @property
    def submissions(self) -> Path:
        return self.internal / "submissions"

    def profile_copy(self, digest: str, profile: str) -> Path:
        return self.internal / "profiles" / digest / Path(profile).name

    @property
    def local_jobs(self) -> Path:
        return self.internal / "local"

    def run(self, name: str) -> RunLayout:
        return RunLayout(self.checkpoints / name)

    def log_directory(self, name: str) -> Path:
        return self.logs / name
