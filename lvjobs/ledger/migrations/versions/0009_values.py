"""Values that were in sentences until now, and tables of their own for what was JSON among the settings."""

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ON_NODE, _STATUS, _SHARED = "a device failed on node ", "its process died (", ") in a job that other runs share"


def _required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False)


def _key(name: str) -> Any:
    return sa.Column(name, sa.String(), primary_key=True)


_TABLES = {
    "avoided_nodes": (
        _key("node"),
        _required("since", sa.Float()),
        _required("reason", sa.Text()),
        _required("used_in", sa.JSON()),
    ),
    "told_jobs": (_key("job"), _required("nodes", sa.JSON())),
    "driver": (
        _required("stopped", sa.Boolean()),
        _required("refused", sa.Text()),
        _required("refused_at", sa.Float()),
        _required("asked", sa.Text()),
    ),
    "notices": (
        _required("held", sa.JSON()),
        _required("ended", sa.Boolean()),
        _required("at", sa.Float()),
        _required("failed", sa.Text()),
    ),
    "searches": (_key("stage"), _required("identity", sa.String()), _required("entries", sa.JSON())),
    "prunings": (_key("stage"), _required("reports", sa.JSON()), _required("pruned", sa.JSON())),
    "watch": (
        _required("last", sa.Float()),
        _required("since", sa.Float()),
        _required("machine", sa.String()),
        _required("uptime", sa.Float()),
    ),
    "suspensions": (
        _key("place"),
        _required("restart", sa.Integer()),
        sa.Column("total", sa.Float()),
        _required("since", sa.Float()),
    ),
    "site_limits": (
        _key("key"),
        _required("time", sa.Float()),
        _required("caps", sa.JSON()),
        sa.Column("members", sa.Integer()),
        sa.Column("minutes", sa.Integer()),
    ),
    "closed_sums": (_required("count", sa.Integer()), _required("token", sa.String()), _required("tally", sa.Text())),
    "closed_basis": (
        _required("format", sa.Integer()),
        _required("terms", sa.JSON()),
        _required("gpus", sa.JSON()),
        _required("profiles", sa.JSON()),
    ),
}
_EMPTY = {
    "stopped": False,
    "refused": "",
    "refused_at": 0.0,
    "asked": "",
    "held": [],
    "ended": False,
    "at": 0.0,
    "failed": "",
    "last": 0.0,
    "since": 0.0,
    "machine": "",
    "uptime": 0.0,
    "used_in": [],
}
"""Of what an earlier release may not have written."""

_FORGOTTEN = ("limits", "closed sums")
"""What the next pass finds out again: the site's limits, and the sums of closed runs."""


def upgrade() -> None:
    """Migrate forward. Columns are added in place: to make the tables anew would drop their triggers (0006)."""
    op.add_column("attempts", sa.Column("failed_node", sa.String(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("exit_status", sa.Integer(), nullable=True))
    op.add_column("events", sa.Column("attempt_id", sa.Integer(), nullable=True))
    _read_breakdowns()
    _read_ends()
    _move_settings()


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


def _move_settings() -> None:
    connection = op.get_bind()
    made = {name: op.create_table(name, *columns) for name, columns in _TABLES.items()}
    for key, text in connection.execute(sa.text("SELECT key, value FROM settings")).all():
        moved = list(_rows(key, text))
        for name, row in moved:
            known = {column.name for column in made[name].columns}
            values = {column: value for column, value in {**_EMPTY, **row}.items() if column in known}
            connection.execute(sa.insert(made[name]).values(values))
        if moved or key in _FORGOTTEN:
            connection.execute(sa.text("DELETE FROM settings WHERE key = :key"), {"key": key})


def _rows(key: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows that a setting becomes, with their tables; none for one that stays."""
    kind, _, stage = key.partition(":")
    if kind == "driver":
        yield "driver", json.loads(text)
    elif kind == "notified":
        yield "notices", json.loads(text)
    elif kind == "search":
        kept = json.loads(text)
        yield "searches", {"stage": stage, "identity": kept["identity"], "entries": kept["history"]}
    elif kind == "pruning":
        yield "prunings", {"stage": stage, **json.loads(text)}
    elif kind == "closed by":
        kept = json.loads(text)
        parts = {name: kept.pop(name, {}) for name in ("gpus", "profiles")}
        yield "closed_basis", {"format": kept.pop("format"), "terms": kept, **parts}
    elif kind == "avoided_nodes":
        kept = json.loads(text)
        yield from (("avoided_nodes", each) for each in kept["nodes"])
        yield from (("told_jobs", {"job": job, "nodes": nodes}) for job, nodes in kept["told"].items())
    elif kind == "watch":
        kept = json.loads(text)
        yield from (("suspensions", {"place": place, **rest}) for place, rest in kept.pop("rests", {}).items())
        yield "watch", kept
