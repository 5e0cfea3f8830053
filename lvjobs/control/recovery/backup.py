"""The backup records: what runs.db knows of a run, kept in its directory, so that a lost ledger can be rebuilt."""

from collections.abc import Sequence
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import write_many
from lvjobs.ledger.backup_record import BackupRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout

_KEY = "memos"


class BackupWriter:
    """A writer of backup records that skips unchanged ones. Each session has its own."""

    def __init__(self, layout: StudyLayout) -> None:
        self._layout = layout
        self._kept: dict[str, str] = {}

    def __call__(self, records: Sequence[BackupRecord]) -> None:
        """Write these backup records into their run directories.

        Raises:
            LvjobsError: one cannot be written. runs.db has it; nothing that was to follow has been done.
        """
        news: dict[Path, str] = {}
        written: dict[str, str] = {}
        try:
            for record in records:
                path, text = self._layout.run(record.run.name).memo, record.to_json()
                if self._known(record.run.id, path) != text and path.parent.is_dir():
                    news[path] = written[record.run.id] = text
            write_many(news, durable=False)  # runs.db is durable; these are copies for when it is lost
        except OSError as error:
            path = next(iter(news), self._layout.checkpoints)
            raise LvjobsError(
                f"{path} cannot be written ({error.strerror}); runs.db has what was to be noted there, and nothing "
                "else was done: make room, then type the command again"
            ) from error
        self._kept |= written

    def _known(self, run_id: str, path: Path) -> str:
        if run_id not in self._kept:
            try:
                self._kept[run_id] = path.read_text(encoding="utf-8")
            except (FileNotFoundError, UnicodeDecodeError):
                return ""
        return self._kept[run_id]


def catch_up(transaction: Transaction) -> None:
    """Mark all runs for a backup record, once per ledger: an earlier release wrote none."""
    if transaction.setting(_KEY) is None:
        transaction.set_setting(_KEY, "1")
        transaction.touched.update(run.id for run in transaction.runs())


def refuse_lost(study: StudyContext) -> None:
    """Refuse to begin a ledger beside runs that it would not know: they would be submitted twice.

    Raises:
        UsageError: runs.db is missing (or empty), and there are run directories.
    """
    layout = study.layout
    if layout.database.exists() and layout.database.stat().st_size:
        return
    runs = sum(1 for _ in layout.checkpoints.glob("*/run.json"))
    if runs:
        what = "1 run" if runs == 1 else f"{runs} runs"
        raise UsageError(
            f"{layout.database} is gone, and {layout.checkpoints} holds {what}, whose jobs may be in the queue; put a "
            f"backup in its place, or make it anew from them: {remedies.LEDGER_REBUILD(*study.where)}"
        )
