"""A study whose ledger is made anew: its rows before and after, and passes until all rests."""

import json
from dataclasses import asdict, fields

from control_scenes import make_haste
from stage_scenes import FIRST, OTHER, Sweep

from lvjobs.control.recovery.rebuild import rebuild
from lvjobs.control.stages.requests import choose
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import RunRecord

VOLATILE = {"reason", "grown", "missing_since"}
AT_REST = ("completed", "cancelled", "held")


def rows(scene):
    """All that a pass goes by."""
    dump = scene.dump()
    names = ("runs", "attempts", "submissions", "members", "charges", "reservations", "cells")
    plain = {
        name: [{key: _parsed(row[key]) for key in row if key not in VOLATILE} for row in dump[name]] for name in names
    }
    return {name: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for name, rows in plain.items()}


def _parsed(value):
    """JSON columns as what they mean."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


def finish(scene, *names):
    """Few passes, far apart, until the runs rest and no job is left."""
    for _ in range(20):
        scene.one_pass()
        if not scene.is_busy() and all(scene.state(name) in AT_REST for name in names or ("one",)):
            return
        scene.cluster.advance(35)


def rebuilt(scene, *, aside=False, shown=None):
    return rebuild(scene.study, lambda *_: shown or scene.cluster, wait=5, aside=aside, now=scene.clock.now)


def as_an_older_release(scene, *, log=False):
    """Leave what an older release left: `ledger.json` in each run directory, and (unless `log`) no log."""
    with scene.session() as session, session.ledger.transaction() as transaction:
        texts = {run.name: _backup_text(transaction, run) for run in transaction.runs()}
    for name, text in texts.items():
        scene.files(name).memo.write_text(text)
    if not log:
        scene.study.layout.ledger_log.unlink()


_ATTEMPT = (
    *("id", "token", "job_id", "restart_count", "started", "generation", "host", "ended", "cause", "evidence"),
    *("allocated_seconds", "gpus", "sharing"),
)


def _backup_text(transaction, run):
    """The backup record of a run as the last release with backup records wrote it."""
    row = {item.name: getattr(run, item.name) for item in fields(RunRecord) if item.name not in ("config", "reason")}
    if run.state in ("held", "paused", "cancelled"):
        row["reason"] = run.reason
    attempts = []
    for attempt in transaction.attempts([run.id]):
        more = () if attempt.generation is not None else ("resumed_from", "checkpoint_step")
        attempts.append({key: getattr(attempt, key) for key in (*_ATTEMPT, *more)})
    members = by_run(transaction.members(unsettled=False))[run.id]
    submissions = {each.token: each for each in transaction.submissions(unsettled=False)}
    reserved = transaction.reservations().get(run.id)
    value = {
        "schema": 1,
        "run": row,
        "attempts": attempts,
        "submissions": [asdict(submissions[member.token]) for member in members],
        "members": [{**asdict(each), "missing_since": None} for each in members],
        "reservation": asdict(reserved) if reserved else None,
        "cells": {stage: cells.index(run.id) for stage, cells in transaction.cells().items() if run.id in cells},
    }
    return json.dumps(value, sort_keys=True) + "\n"


def lose(scene):
    """The ledger is deleted; what it had is returned."""
    before = rows(scene)
    scene.study.layout.database.unlink()
    return before


def killed(scene):
    scene.cluster.kill(scene.job().id)
    scene.make_pass()


def preempted(scene):
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)
    scene.make_pass()
    scene.cluster.advance(6)
    scene.make_pass()
    assert scene.causes() == ["preempted", None]


def node_failed(scene):
    """An end that nobody saw, by Slurm's word: a part of what it may have executed is charged unseen."""
    scene.cluster.fail_node(scene.job().id)
    scene.go(30)
    assert scene.spent()["estimated"]


def failed(scene):
    scene.worker.failing["one"] = 7
    scene.go(60)
    assert scene.state() == "held"


def cancelled(scene):
    scene.cancel("one")
    scene.cluster.advance(130)
    scene.make_pass()


def launch_failed(scene):
    scene.cluster.kill(scene.job().id)
    scene.go(30)
    scene.cluster.hold_launch(scene.job().id)
    scene.make_pass()


def taken_up(scene):
    failed(scene)
    scene.worker.failing.clear()
    scene.resume_runs("one", time_limit="30m")
    scene.make_pass()


def completed(scene):
    finish(scene)
    assert scene.state() == "completed"


HISTORIES = [killed, preempted, node_failed, failed, cancelled, launch_failed, taken_up, completed]


def swept(tmp_path, monkeypatch):
    """A study with a completed stage whose winner was chosen by hand."""
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    scene = Sweep(tmp_path / "study", FIRST, OTHER)
    scene.ask("first")
    names = [row["name"] for row in scene.rows("runs")]
    finish(scene, *names)
    scene.do(choose, "first", names[0], "it is the one")
    return scene
