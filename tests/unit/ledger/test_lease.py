"""The lease: one holder at a time, without trusting anybody else's clock."""

import json
import multiprocessing
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from lvjobs.ledger.lease import Holder, LeaseTaken, acquire, machine


class Clock:
    """A monotonic clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def elsewhere(**changes):
    """A holder on another host, about whose process nothing can be known here."""
    return replace(Holder("node7", "another boot", 4711, 1.0), **changes)


def mine(directory: Path):
    """This process, as the holder of the lease in `directory`."""
    directory.mkdir(exist_ok=True)
    return Holder.this_process(directory)


def write_claim(directory: Path, number: int, holder: Holder):
    directory.mkdir(exist_ok=True)
    (directory / f"{number:06d}").write_text(json.dumps(asdict(holder)))


def test_numbers_are_consecutive_and_released_ones_are_followed_at_once(tmp_path, clock):
    for expected in (1, 2, 3):
        with acquire(tmp_path / "lease", wait=0, clock=clock, sleep=clock.sleep) as lease:
            assert lease.number == expected
    assert clock.now == 100.0


def test_a_live_holder_is_waited_for_and_named(tmp_path, clock):
    with (
        acquire(tmp_path / "lease", wait=0),
        pytest.raises(LeaseTaken, match=f"process {os.getpid()} on {os.uname().nodename}"),
    ):
        acquire(tmp_path / "lease", wait=5, clock=clock, sleep=clock.sleep)
    assert clock.now >= 105


def test_a_holder_elsewhere_that_shows_no_life_for_a_whole_term_is_followed(tmp_path, clock, fault):
    write_claim(tmp_path / "lease", 7, elsewhere())
    lease = acquire(tmp_path / "lease", wait=60, term=15, clock=clock, sleep=clock.sleep)
    assert lease.number == 8
    assert 115 <= clock.now < 116
    fault("lease_elsewhere", None, saw="waited for a term of 15 s, then followed")


def test_a_holder_elsewhere_that_beats_is_never_followed(tmp_path, clock):
    beats = iter(range(1, 10_000))
    write_claim(tmp_path / "lease", 7, elsewhere())

    def sleep_while_it_beats(seconds):
        clock.sleep(seconds)
        write_claim(tmp_path / "lease", 7, elsewhere(beat=next(beats)))

    with pytest.raises(LeaseTaken, match="node7"):
        acquire(tmp_path / "lease", wait=60, term=15, clock=clock, sleep=sleep_while_it_beats)


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path, clock):
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    process.start()
    process.join()
    write_claim(tmp_path / "lease", 3, replace(mine(tmp_path / "lease"), pid=process.pid))
    assert acquire(tmp_path / "lease", wait=0, clock=clock, sleep=clock.sleep).number == 4
    assert clock.now == 100.0


def test_a_reused_process_id_is_another_process(tmp_path, clock):
    write_claim(tmp_path / "lease", 3, replace(mine(tmp_path / "lease"), started=1.0))
    assert acquire(tmp_path / "lease", wait=0, clock=clock, sleep=clock.sleep).number == 4


def test_a_living_holder_is_waited_for_after_the_clock_was_set(tmp_path, clock, monkeypatch):
    with acquire(tmp_path / "lease", wait=0):
        told = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: told(process) + 3600)
        with pytest.raises(LeaseTaken):
            acquire(tmp_path / "lease", wait=5, clock=clock, sleep=clock.sleep)


def as_an_older_release(pid, started):
    """A holder of this machine, as older releases wrote it: with the wall-clock time at which its process started."""
    return Holder(os.uname().nodename, machine(), pid, started)


def test_a_holder_of_an_older_release_is_followed_at_once_only_if_its_process_is_gone(tmp_path, clock):
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    process.start()
    process.join()
    write_claim(tmp_path / "lease", 3, as_an_older_release(process.pid, 1.0))
    assert acquire(tmp_path / "lease", wait=0, clock=clock, sleep=clock.sleep).number == 4
    write_claim(tmp_path / "lease", 5, as_an_older_release(os.getpid(), psutil.Process().create_time() + 3600))
    with pytest.raises(LeaseTaken):
        acquire(tmp_path / "lease", wait=5, term=15, clock=clock, sleep=clock.sleep)
    assert acquire(tmp_path / "lease", wait=60, term=15, clock=clock, sleep=clock.sleep).number == 6


def test_a_claim_is_one_that_an_older_release_can_read_and_does_not_take_for_a_dead_process(tmp_path):
    with acquire(tmp_path / "lease", wait=0) as lease:
        claim = json.loads((tmp_path / "lease" / f"{lease.number:06d}").read_text())
    assert sorted(claim) == ["beat", "host", "machine", "pid", "released", "started"]
    assert claim["machine"] != machine(), "it would compare `started` with a wall-clock time"


def test_a_claim_that_makes_no_sense_is_followed(tmp_path, clock):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "000005").write_text("{")
    assert acquire(tmp_path / "lease", wait=0, clock=clock, sleep=clock.sleep).number == 6


def test_the_holder_beats_while_it_holds(tmp_path):
    with acquire(tmp_path / "lease", wait=0, term=0.25) as lease:
        path = tmp_path / "lease" / f"{lease.number:06d}"
        first = path.read_text()
        deadline = time.monotonic() + 300
        while path.read_text() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _take_and_note(directory, log, barrier):
    barrier.wait()
    with acquire(directory, wait=900, term=900) as lease:
        with log.open("a") as stream:
            stream.write(f"+{lease.number}\n")
            stream.flush()
            time.sleep(0.01)
            stream.write(f"-{lease.number}\n")


def test_many_processes_hold_it_one_after_the_other(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, log = context.Barrier(6), tmp_path / "log"
    processes = [context.Process(target=_take_and_note, args=(tmp_path / "lease", log, barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    lines = log.read_text().split()
    assert sorted(int(line[1:]) for line in lines[::2]) == [1, 2, 3, 4, 5, 6]
    assert [line.replace("-", "+") for line in lines[1::2]] == lines[::2]


def test_a_number_is_above_the_ledgers_epoch_whatever_became_of_the_claims(tmp_path, clock):
    """They are not synced, and runs.db is; they may be deleted; a runs.db that was copied later knows a later epoch."""
    with acquire(tmp_path / "lease", wait=0, above=41) as lease:
        assert lease.number == 42
    with acquire(tmp_path / "lease", wait=0, above=7) as lease:
        assert lease.number == 43
    assert sorted(path.name for path in (tmp_path / "lease").iterdir()) == ["000042", "000043"]


def test_a_copied_claim_is_not_waited_for(tmp_path, clock):
    with acquire(tmp_path / "lease", wait=0):
        shutil.copytree(tmp_path / "lease", tmp_path / "copy")
        with acquire(tmp_path / "copy", wait=0, clock=clock, sleep=clock.sleep) as lease:
            assert lease.number == 2
            with pytest.raises(LeaseTaken):
                acquire(tmp_path / "copy", wait=5, clock=clock, sleep=clock.sleep)
        with pytest.raises(LeaseTaken):
            acquire(tmp_path / "lease", wait=5, clock=clock, sleep=clock.sleep)


def test_the_holder_of_a_directory_that_was_moved_or_has_two_names_is_waited_for(tmp_path, clock):
    with acquire(tmp_path / "lease", wait=0):
        (tmp_path / "link").symlink_to(tmp_path / "lease")
        with pytest.raises(LeaseTaken):
            acquire(tmp_path / "link", wait=5, clock=clock, sleep=clock.sleep)
        (tmp_path / "lease").rename(tmp_path / "moved")
        with pytest.raises(LeaseTaken):
            acquire(tmp_path / "moved", wait=5, clock=clock, sleep=clock.sleep)
        (tmp_path / "moved").rename(tmp_path / "lease")


def test_keys_of_a_newer_release_do_not_free_its_claim(tmp_path, clock):
    (tmp_path / "lease").mkdir()
    newer = {**asdict(elsewhere()), "colour": "red"}
    (tmp_path / "lease" / "000003").write_text(json.dumps(newer))
    with pytest.raises(LeaseTaken, match="node7"):
        acquire(tmp_path / "lease", wait=5, clock=clock, sleep=clock.sleep)
