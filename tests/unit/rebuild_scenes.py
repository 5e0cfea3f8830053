"""A study whose ledger is made anew: its rows before and after, and passes until all rests."""

import json

from lvjobs.control.recovery.rebuild import rebuild

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
