"""Checkpoints: whole or not there; the newest valid one wins; what is pruned; who may publish."""

import errno
import json
import os
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvjobs import files
from lvjobs.errors import LvjobsError, Superseded
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.worker import checkpoints
from lvjobs.worker.checkpoints import RNG, find_newest_valid, write_checkpoint
from lvjobs.worker.state import load_trees


def save_note(directory):
    (directory / "deep").mkdir()
    (directory / "deep" / "note.txt").write_text("a note")


STATE = {"weights": {"w": torch.arange(3.0), 0: [1, (2, None)]}, "adapter": save_note}


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path)


def write(layout, generation, step, state=STATE, metrics=None):
    return write_checkpoint(layout, CheckpointName(generation, step), state, metrics or {})[0]


def leftovers(layout):
    return [path.name for path in layout.steps.iterdir() if path.name.startswith(".")]


def test_write_and_read(layout):
    path, size = write_checkpoint(layout, CheckpointName(1, 250), STATE, {"loss": 1.5})
    assert path.name == "000001-00000250"
    assert size > 0
    found, invalid = find_newest_valid(layout)
    assert invalid == []
    assert found.path == path
    assert found.manifest.metrics == {"loss": 1.5}
    state = load_trees(found.path)
    assert set(state) == {"weights", RNG}
    assert state["weights"][0] == [1, (2, None)]
    assert (path / "adapter" / "deep" / "note.txt").read_text() == "a note"
    assert leftovers(layout) == []


def test_the_same_again_is_fine(layout):
    first = write(layout, 1, 5)
    before = (first / "manifest.json").read_bytes()
    assert write(layout, 1, 5, {"other": 1}) == first
    assert (first / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_to_each_file_falls_back_to_the_older_one(layout, damage, fault):
    old, new = write(layout, 1, 5), write(layout, 1, 10)
    sound = layout.root / "sound"
    shutil.copytree(new, sound)
    names = [path.relative_to(new) for path in sorted(new.rglob("*")) if path.is_file()]
    assert len(names) == 4
    for name in names:
        data = (new / name).read_bytes()
        if damage == "remove":
            (new / name).unlink()
        elif damage == "flip" and name.name == "manifest.json":
            at = data.index(b'"files"') + 30  # into a file's name or its checksum
            (new / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        else:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            (new / name).write_bytes({"flip": flipped, "truncate": data[:-1], "empty": b""}[damage])
            if damage == "truncate" and name.name == "manifest.json":
                (new / name).write_bytes(data[:-4])  # its last bytes are only blanks
        found, invalid = find_newest_valid(layout)
        assert found.path == old, name
        assert [str(bad.name) for bad in invalid] == [new.name]
        assert invalid[0].problem
        shutil.rmtree(new)
        shutil.copytree(sound, new)
        assert find_newest_valid(layout)[0].path == new
    fault("bytes_flipped", None, times=len(names), saw=f"falls back to the older one: {invalid[0].problem}")


def test_a_stray_file_a_wrong_name_and_a_foreign_manifest_are_damage(layout):
    old, new = write(layout, 1, 5), write(layout, 1, 10)
    (new / "stray").touch()
    assert "stray" in find_newest_valid(layout)[1][0].problem
    shutil.rmtree(new)
    shutil.copytree(old, new)
    assert "000001-00000005" in find_newest_valid(layout)[1][0].problem
    (new / "manifest.json").write_text("[]")
    found, (bad,) = find_newest_valid(layout)
    assert found.path == old
    assert bad.problem


@pytest.mark.parametrize("times", [1, 99])
def test_one_that_cannot_be_read_is_not_taken_for_damaged(layout, monkeypatch, times):
    """A file system that is away for a moment: an older one would be trained from, and this one deleted."""
    write(layout, 1, 5)
    new = write(layout, 1, 9)
    real, left = checkpoints.sha256_of, [times]

    def away(path, **more):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **more)

    monkeypatch.setattr(checkpoints, "sha256_of", away)
    monkeypatch.setattr(checkpoints, "_READ_AGAIN_SECONDS", 0)
    if times == 1:
        found, invalid = find_newest_valid(layout)
        assert (found.path, invalid) == (new, [])
    else:
        with pytest.raises(LvjobsError, match=r"cannot be read \(Input/output error\); it may be good"):
            find_newest_valid(layout)


def test_a_file_that_a_symlink_leads_to_is_no_part_of_a_checkpoint(layout):
    with pytest.raises(ValueError, match="symbolic"):
        write(layout, 1, 5, {"adapter": lambda directory: (directory / "link").symlink_to("/etc/hostname")})
    assert leftovers(layout) == []


def test_nothing_valid_at_all(layout):
    assert find_newest_valid(layout) == (None, [])
    (write(layout, 1, 5) / "manifest.json").unlink()
    found, invalid = find_newest_valid(layout)
    assert found is None
    assert len(invalid) == 1


def test_a_newer_generation_beats_a_greater_step(layout):
    write(layout, 1, 20)
    newest = write(layout, 2, 10)
    assert find_newest_valid(layout)[0].path == newest


def test_the_fence_holds_before_and_after_the_writing(layout):
    layout.generation(1).touch()
    calls = []

    def overtaken(directory):
        calls.append(directory)
        layout.generation(2).touch()

    with pytest.raises(Superseded):
        write(layout, 1, 5, {"adapter": overtaken})
    assert calls
    assert checkpoints.published(layout) == []
    calls.clear()
    with pytest.raises(Superseded):
        write(layout, 1, 5, {"adapter": overtaken})
    assert not calls, "an orphan does not even begin to write"


def test_an_orphan_whose_files_were_swept_away_is_superseded_not_broken(layout):

    def swept(directory):
        layout.generation(2).touch()
        checkpoints.sweep_leftovers(layout, 2)
        (directory / "x").touch()

    with pytest.raises(Superseded):
        write(layout, 1, 5, {"adapter": swept})


@pytest.mark.parametrize("where", ["fsync", "rename", "write"])
def test_a_refusing_file_system_leaves_what_was_there(layout, monkeypatch, where):
    old = write(layout, 1, 5)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    elif where == "rename":
        monkeypatch.setattr(checkpoints.Path, "rename", refuse)
    else:
        monkeypatch.setattr(files, "write_atomic", refuse)
    with pytest.raises(LvjobsError, match="No space left") as caught:
        write(layout, 1, 10)
    assert "lvjobs resume" in str(caught.value)
    monkeypatch.undo()
    assert find_newest_valid(layout)[0].path == old
    assert leftovers(layout) == []


def test_every_file_is_synced_before_the_rename(layout, monkeypatch):
    synced, real, rename = set(), os.fsync, checkpoints.Path.rename

    def fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    def check(path, target):
        if path.is_dir():
            for part in [path, *path.rglob("*")]:
                assert part.stat().st_ino in synced, f"{part} is renamed before it is durable"
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(checkpoints.Path, "rename", check)
    write(layout, 1, 5)
    assert layout.steps.stat().st_ino in synced


def test_a_saver_that_draws_leaves_the_generators_alone(layout):
    before = torch.get_rng_state()
    write(layout, 1, 5, {"adapter": lambda _: torch.rand(3)})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["", "_rng", "a/b", "a.b", "..", "x" * 65])
def test_bad_names(layout, name):
    with pytest.raises(ValueError, match="cannot name"):
        write(layout, 1, 5, {name: 1})
    assert leftovers(layout) == []


def test_a_module_itself_is_refused(layout):
    with pytest.raises(TypeError, match="state_dict"):
        write(layout, 1, 5, {"model": torch.nn.Linear(1, 1)})


names = st.builds(CheckpointName, st.integers(1, 3), st.integers(1, 9))


@given(
    st.sets(names, min_size=1), st.dictionaries(names, st.floats()), st.sets(names), st.integers(1, 3), st.booleans()
)
def test_pruning(there, losses, invalid, keep_last, keep_best):
    doomed = set(checkpoints.decide_prune(there, losses, invalid, keep_last=keep_last, keep_best=keep_best))
    kept = there - doomed
    sound = sorted(there - invalid)
    assert doomed <= there
    assert kept.isdisjoint(invalid)
    assert set(sound[-keep_last:]) <= kept
    assert len(kept) <= keep_last + keep_best
    finite = {name: losses[name] for name in sound if name in losses and abs(losses[name]) < float("inf")}
    if keep_best and finite:
        assert min(losses[name] for name in kept if name in finite) == min(finite.values())


@pytest.mark.parametrize("metric", ["validation_loss", "validation_loss_numeric"])
def test_pruning_on_disk(layout, metric):
    for step, loss in ((5, 3.0), (10, 1.0), (15, 2.0), (20, float("nan")), (25, 4.0)):
        write(layout, 1, step, {"x": 1}, {metric: loss})
    newer = write(layout, 2, 6, {"x": 1})
    checkpoints.prune(layout, 1, [CheckpointName(1, 25)], keep_last=1, keep_best=True)
    assert {path.name for path in layout.steps.iterdir()} == {"000001-00000010", "000001-00000020", newer.name}


def test_an_orphan_prunes_nothing(layout):
    for step in (5, 10, 15):
        write(layout, 1, step, {"x": 1})
    layout.generation(2).touch()
    with pytest.raises(Superseded):
        checkpoints.prune(layout, 1, [], keep_last=1, keep_best=True)
    assert len(checkpoints.published(layout)) == 3


def test_only_older_leftovers_are_swept(layout):
    for generation in (1, 2, 3):
        (layout.steps / f".{generation:06d}-00000005.tmp.host.1").mkdir()
    kept = write(layout, 1, 5, {"x": 1})
    checkpoints.sweep_leftovers(layout, 2)
    assert {path.name for path in layout.steps.iterdir()} == {
        kept.name,
        ".000002-00000005.tmp.host.1",
        ".000003-00000005.tmp.host.1",
    }


def test_the_manifest_lists_every_file(layout):
    manifest = json.loads((write(layout, 1, 5) / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [
        "_state.tree.json",
        "_state.tree.safetensors",
        "adapter/deep/note.txt",
    ]
