"""Values that were in sentences until now: the node of a failed device, the attempt whose end an event tells of."""

from collections import defaultdict, deque

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ON_NODE, _STATUS, _SHARED = "a device failed on node ", "its process died (", ") in a job that other runs share"


def upgrade() -> None:
    """Migrate forward. Columns are added in place: to make the tables anew would drop their triggers (0006)."""
    op.add_column("attempts", sa.Column("failed_node", sa.String(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("exit_status", sa.Integer(), nullable=True))
    op.add_column("events", sa.Column("attempt_id", sa.Integer(), nullable=True))
    _read_breakdowns()
    _read_ends()


def _read_breakdowns() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, died FROM attempts WHERE died <> ''")).all()
    for id_, died in rows:
        status = died.removeprefix(_STATUS).removesuffix(_SHARED)
        values = {
            "id": id_,
            "died": "process" if died.startswith(_STATUS) else "device",
            "node": died.removeprefix(_ON_NODE) if died.startswith(_ON_NODE) else "",
            "status": int(status) if status.removeprefix("-").isdigit() else None,
        }
        change = "UPDATE attempts SET died = :died, failed_node = :node, exit_status = :status WHERE id = :id"
        connection.execute(sa.text(change), values)


def _read_ends() -> None:
    """Find the events that began with the cause and the evidence of an attempt's end: each attempt has one at most."""
    connection = op.get_bind()
    ends: dict[str, dict[str, deque[int]]] = defaultdict(lambda: defaultdict(deque))
    query = "SELECT id, run_id, cause || ': ' || evidence FROM attempts WHERE cause IS NOT NULL ORDER BY id"
    for id_, run_id, end in connection.execute(sa.text(query)):
        ends[run_id][end].append(id_)
    events = connection.execute(sa.text("SELECT id, run_id, text FROM events WHERE run_id IS NOT NULL ORDER BY id"))
    for id_, run_id, text in events.all():
        known = [end for end, left in ends[run_id].items() if left and f"{text}; ".startswith(f"{end}; ")]
        end = max(known, key=len, default=None)
        if end is not None:
            values = {"id": id_, "attempt": ends[run_id][end].popleft(), "text": text.removeprefix(end).lstrip("; ")}
            connection.execute(sa.text("UPDATE events SET attempt_id = :attempt, text = :text WHERE id = :id"), values)


def downgrade() -> None:
    """Migrate back; ends and breakdowns are no longer in words."""
    op.drop_column("events", "attempt_id")
    op.drop_column("attempts", "exit_status")
    op.drop_column("attempts", "failed_node")
