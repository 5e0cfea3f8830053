"""The refusal to begin a ledger beside runs that it would not know."""

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext


def refuse_lost(study: StudyContext) -> None:
    """Refuse to begin a ledger beside runs that it would not know: they would be submitted twice.

    Raises:
        UsageError: runs.db is missing (or empty), and there are run directories, a log, or files of submissions.
    """
    layout = study.layout
    if layout.database.exists() and layout.database.stat().st_size:
        return
    runs = sum(1 for _ in layout.checkpoints.glob("*/run.json"))
    kept = [path for path in (layout.ledger_log, *layout.submissions.glob("*.jsonl")) if path.exists()]
    if runs or kept:
        what = "1 run" if runs == 1 else f"{runs} runs"
        there = f"{layout.checkpoints} holds {what}" if runs else f"{kept[0]} holds a copy of its runs"
        raise UsageError(
            f"{layout.database} is gone, and {there}, whose jobs may be in the queue; put a backup in its place, or "
            f"make it anew from them: {remedies.LEDGER_REBUILD(*study.where)}"
        )
