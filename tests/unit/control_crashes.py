"""Processes that end at one chosen instant: before or after a commit, a call of the cluster, a file that is published.

Killed, or by Ctrl-C: then what was opened is closed on the way out.
"""

import os
import pickle
import re
import shutil
import sys
import threading
import traceback
import zlib
from contextlib import contextmanager

import pytest

from lvjobs.ledger.database import Ledger
from lvjobs.ledger.log import LedgerLog

_CALLS = ("submit", "observe", "check", "cancel", "release", "lift_hold")


class Instants:
    """Counts the instants at which a process may die, and calls `die` at number `at`."""

    def __init__(self, at, die):
        self.at, self.die, self.names = at, die, []

    def point(self, name):
        if threading.current_thread() is not threading.main_thread():
            return  # the lease's heart
        self.names.append(name)
        if len(self.names) == self.at:
            self.die(name)

    def around(self, name, call):
        def counted(*args, **kwargs):
            self.point(f"before {name}")
            result = call(*args, **kwargs)
            self.point(f"after {name}")
            return result

        return counted

    def watch(self, scene, setattr_=setattr, also=()):
        """Put an instant before and after everything that leaves a trace; `also` are functions: module and name."""
        scene.shown = _Watched(scene.shown, self)
        # written aside | synced | published, not yet durable | durable: a process may end between any two
        for name in ("fsync", "rename", "link", "unlink"):
            setattr_(os, name, self.around(f"os.{name}", getattr(os, name)))
        setattr_(Ledger, "transaction", _watched_transaction(Ledger.transaction, self))
        setattr_(LedgerLog, "append", self.around("a line of the log", LedgerLog.append))
        for module, name in also:
            setattr_(module, name, self.around(name, getattr(module, name)))


class _Watched:
    def __init__(self, cluster, instants):
        self.cluster, self._instants = cluster, instants

    def __getattr__(self, name):
        found = getattr(self.cluster, name)
        return self._instants.around(name, found) if name in _CALLS else found


def _watched_transaction(transaction, instants):
    @contextmanager
    def watched(ledger):
        with transaction(ledger) as opened:
            yield opened
            instants.point("before a commit")
        instants.point("after a commit")

    return watched


def die_at(scene, at, act, *, interrupted=False, also=()):
    """`act(scene)` in a process that ends at instant `at`; returns the scene as it left it, and the instants."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _act_and_die(scene, at, act, writing, interrupted=interrupted, also=also)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    assert data, "it failed by itself: see above"
    return pickle.loads(data)


def _act_and_die(scene, at, act, writing, *, interrupted, also):
    shown = scene.shown

    def die(_name):
        scene.shown = shown
        with os.fdopen(writing, "wb") as stream:
            stream.write(pickle.dumps((scene, instants.names)))
        os._exit(0)

    def interrupt(_name):
        raise KeyboardInterrupt

    try:
        instants = Instants(at, interrupt if interrupted else die)
        instants.watch(scene, also=also)
        try:
            act(scene)
        except KeyboardInterrupt:
            assert interrupted
        else:
            assert at is None, f"nothing came of instant {at}"
        die("the end")
    except BaseException:  # noqa: BLE001 - a forked test has nobody above it
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(1)


@pytest.fixture(name="die_everywhere")
def dying(request):
    """Yield the remains of a process that does `act` and is killed at its first instant, at its second, ... Each once.

    `interrupted`: by Ctrl-C, and it closes what it opened. `also`: see `Instants.watch`. An instant costs a process, and
    what it leaves behind several passes: an ordinary run meets the first and the last instant and every third, each test
    beginning elsewhere. With --storm all are met.
    """
    every, offset = (1, 0) if request.config.getoption("--storm") else (3, zlib.crc32(request.node.name.encode()) % 3)

    def each(scene, act, *, interrupted=False, also=()):
        return _die_at_each(scene, act, chosen(every, offset), interrupted=interrupted, also=also)

    return each


def chosen(every, offset):
    """Choose of so many instants, counted from 1: the first, the last, and one in `every`."""
    return lambda number: sorted({1, number, *range(1 + offset, number + 1, every)})


def _die_at_each(scene, act, choose, *, interrupted, also):
    root, backup = scene.study.root, scene.study.root.with_name("backup")
    shutil.copytree(root, backup)
    before = pickle.dumps(scene)
    _, names = die_at(scene, None, act, also=also)
    met, instants = set(), choose(len(names))
    for at in instants:
        for path in root.iterdir():  # the directory itself stays: another one would be a place to record
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(backup, root, dirs_exist_ok=True)
        left, seen = die_at(pickle.loads(before), at, act, interrupted=interrupted, also=also)
        assert seen[:at] == names[:at]
        if (traces := _traces(left)) not in met:
            met.add(traces)
            yield f"{at} of {len(names)}, {names[at - 1]}", left
    assert len(met) > 2
    sys.stdout.write(f"{len(instants)} of {len(names)} instants, which leave {len(met)} different things behind\n")


def _traces(scene):
    """All that later commands can meet of what a process did, with nothing random in it."""
    root = scene.study.root
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if "lease" not in path.parts)
    jobs = [(job.id, job.state, job.restart_count, job.eligible, job.reason) for job in scene.cluster.jobs]
    drivers = [(job.id, job.state) for job in getattr(scene.shown, "drivers", ())]
    there = scene.study.layout.database.exists()
    text = repr((scene.dump() if there else None, names, jobs, drivers))
    for number, row in enumerate(scene.rows("submissions") if there else ()):
        text = text.replace(row["token"], f"token{number}")
    return re.sub(r"\.\d+\.(tmp|claim)", r".pid.\1", text)
