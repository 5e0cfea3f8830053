"""Checkpoints: whole or not there; the newest valid one wins; what is pruned; who may publish."""

import errno
import hashlib
import os
import random
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from worker_helpers import write_directory

from lvjobs.errors import LvjobsError, Superseded
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.worker import checkpoints, pruning, tensor_file
from lvjobs.worker.checkpoints import RNG, find_newest_valid, verify, write_checkpoint
from lvjobs.worker.journal import Chain
from lvjobs.worker.saved_files import copy_saved, unpack
from lvjobs.worker.stored import files_in, open_checkpoint
from lvjobs.worker.tensor_file import sha256_of


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
    assert path.name == "000001-00000250.safetensors"
    assert size == path.stat().st_size
    found, invalid = find_newest_valid(layout)
    assert invalid == {}
    assert found.path == path
    assert found.manifest.metrics == {"loss": 1.5}
    with open_checkpoint(found.path) as stored:
        state = stored.trees()
    assert set(state) == {"weights", RNG}
    assert state["weights"][0] == [1, (2, None)]
    copy_saved(layout, found, layout.root / "copy")
    assert (layout.root / "copy" / "adapter" / "deep" / "note.txt").read_text() == "a note"
    assert sorted(each.name for each in layout.steps.iterdir()) == [path.name, "copy"]


def test_the_same_again_is_fine(layout):
    first = write(layout, 1, 5)
    before = first.read_bytes()
    assert write(layout, 1, 5, {"other": 1}) == first
    assert first.read_bytes() == before


def test_a_flipped_or_lost_byte_anywhere_falls_back_to_the_older_one(layout, fault):
    """In the header (its length, types, places, the manifest, its own hash, blanks), and in the tensors and files."""
    old, new = write(layout, 1, 5), write(layout, 1, 10)
    sound, rng = new.read_bytes(), random.Random(5)
    header = 8 + int.from_bytes(sound[:8], "little")
    places = {*range(120), *range(header - 12, header + 12), *rng.sample(range(len(sound)), 200)}
    places |= {sound.index(word) for word in (b"data_offsets", b"parent", b"F32", b"a note", b"metrics")}
    for at in sorted(each for each in places if each < len(sound)):
        flipped = bytes([sound[at] ^ (1 << rng.randrange(8))])
        for damaged in (sound[:at] + flipped + sound[at + 1 :], sound[:at] + sound[at + 1 :], sound[:at]):
            new.write_bytes(damaged)
            found, invalid = find_newest_valid(layout)
            assert found.path == old, at
            assert list(invalid) == [CheckpointName(1, 10)]
            assert all(invalid.values())
            pruning.prune(layout, 1, [], keep_last=2, keep_best=True)
    for damaged in (b"", sound + b"x", sound + bytes(8)):
        new.write_bytes(damaged)
        assert find_newest_valid(layout)[0].path == old
    new.write_bytes(sound)
    assert find_newest_valid(layout)[0].path == new
    fault("bytes_flipped", None, times=len(places), saw=f"falls back to the older one: {min(invalid.values())}")


def test_a_file_under_a_wrong_name_and_one_of_another_program_are_damage(layout):
    old, new = write(layout, 1, 5), write(layout, 1, 10)
    shutil.copy(old, new)
    assert "000001-00000005" in min(find_newest_valid(layout)[1].values())
    save_file({"w": torch.zeros(9)}, new, {"manifest": "{}"})
    found, invalid = find_newest_valid(layout)
    assert found.path == old
    assert all(invalid.values())
    assert len(invalid) == 1


# -- directories, as older releases wrote them ------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_to_each_file_of_a_directory_falls_back_to_the_older_one(layout, damage):
    old, new = write(layout, 1, 5), write_directory(layout, CheckpointName(1, 10), STATE)
    sound = layout.root / "sound"
    shutil.copytree(new, sound)
    names = files_in(new)
    assert names == ["_state.tree.json", "_state.tree.safetensors", "adapter/deep/note.txt", "manifest.json"]
    for name in names:
        data = (new / name).read_bytes()
        if damage == "remove":
            (new / name).unlink()
        elif damage == "flip" and name == "manifest.json":
            at = data.index(b'"files"') + 30  # into a file's name or its checksum
            (new / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        else:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            (new / name).write_bytes({"flip": flipped, "truncate": data[:-1], "empty": b""}[damage])
        found, invalid = find_newest_valid(layout)
        assert found.path == old, name
        assert list(map(str, invalid)) == [new.name]
        assert all(invalid.values())
        shutil.rmtree(new)
        shutil.copytree(sound, new)
        assert find_newest_valid(layout)[0].path == new


def test_a_stray_file_a_wrong_name_and_a_foreign_manifest_are_damage_to_a_directory(layout):
    older = write(layout, 1, 3)
    old, new = (write_directory(layout, CheckpointName(1, step), STATE) for step in (5, 10))
    (new / "stray").touch()
    assert "stray" in min(find_newest_valid(layout)[1].values())
    shutil.rmtree(new)
    shutil.copytree(old, new)
    assert "000001-00000005" in min(find_newest_valid(layout)[1].values())
    for path in (old, new):
        (path / "manifest.json").write_text("[]")
    found, invalid = find_newest_valid(layout)
    assert found.path == older
    assert all(invalid.values())


def test_a_directory_is_loaded_copied_and_a_parent_like_a_file(layout):
    directory = write_directory(layout, CheckpointName(1, 5), STATE, {"validation_loss": 1.0})
    (layout.root / "journal").write_bytes(b"a line\n")
    found, _ = find_newest_valid(layout)
    assert found.path == directory
    with open_checkpoint(found.path) as stored:
        state = stored.trees()
    assert state["weights"][0] == [1, (2, None)]
    assert torch.equal(state["weights"]["w"], STATE["weights"]["w"])
    copy_saved(layout, found, layout.root / "copy")
    assert (layout.root / "copy" / "adapter" / "deep" / "note.txt").read_text() == "a note"
    assert unpack(layout, 2, found) == directory
    checkpoints.sweep_leftovers(layout, 3)
    assert directory.is_dir(), "a checkpoint is no copy"
    path, _ = write_checkpoint(layout, CheckpointName(2, 10), STATE, {}, Chain(layout.root / "journal", found.sha256))
    assert verify(path).manifest.parent == sha256_of(directory / "manifest.json")


def test_directories_and_files_are_pruned_together(layout):
    for step, loss in ((5, 3.0), (10, 1.0), (15, 2.0)):
        write_directory(layout, CheckpointName(1, step), {"x": 1}, {"validation_loss": loss})
    for step, loss in ((20, 4.0), (25, 5.0)):
        write(layout, 2, step, {"x": 1}, {"validation_loss": loss})
    pruning.prune(layout, 2, [], keep_last=1, keep_best=True)
    assert {path.name for path in layout.steps.iterdir()} == {"000001-00000010", "000002-00000025.safetensors"}


# -- the chain ---------------------------------------------------------------------------------------------------------


def test_each_checkpoint_names_its_parent_and_proves_the_journal_up_to_it(layout):
    journal = layout.root / "journal"
    journal.write_bytes(b"one\n")
    chain = Chain(journal, "")
    manifests, hashes = [], []
    for step in (5, 10, 15):
        path, _ = write_checkpoint(layout, CheckpointName(1, step), STATE, {}, chain)
        manifests.append(verify(path).manifest)
        hashes.append(verify(path).sha256)
        with journal.open("ab") as stream:
            stream.write(b"more\n" * step)
    assert [manifest.parent for manifest in manifests] == ["", hashes[0], hashes[1]]
    assert len(set(hashes)) == 3
    assert [manifest.journal_bytes for manifest in manifests] == [4, 29, 79]
    for manifest in manifests:
        proved = hashlib.sha256(journal.read_bytes()[: manifest.journal_bytes]).hexdigest()
        assert manifest.journal_sha256 == proved


def test_a_checkpoint_that_was_not_published_is_nobodys_parent(layout, monkeypatch):
    (layout.root / "journal").touch()
    chain = Chain(layout.root / "journal", "the one before")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(LvjobsError, match="No space left"):
        patched.setattr(checkpoints.Path, "rename", refuse)
        write_checkpoint(layout, CheckpointName(1, 5), STATE, {}, chain)
    path, _ = write_checkpoint(layout, CheckpointName(1, 5), STATE, {}, chain)
    assert verify(path).manifest.parent == "the one before"


# -- file systems ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [write, lambda layout, *name: write_directory(layout, CheckpointName(*name), STATE)])
@pytest.mark.parametrize("times", [1, 99])
def test_one_that_cannot_be_read_is_not_taken_for_damaged(layout, monkeypatch, times, kind):
    """A file system that is away for a moment: an older one would be trained from, and this one deleted."""
    write(layout, 1, 5)
    new = kind(layout, 1, 9)
    real, left = checkpoints.Path.open, [times]

    def away(path, mode="r", *more, **options):
        if left[0] and mode == "rb":
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return real(path, mode, *more, **options)

    monkeypatch.setattr(checkpoints.Path, "open", away)
    monkeypatch.setattr(checkpoints, "_READ_AGAIN_SECONDS", 0)
    if times == 1:
        found, invalid = find_newest_valid(layout)
        assert (found.path, invalid) == (new, {})
    else:
        with pytest.raises(LvjobsError, match=r"cannot be read \(Input/output error\); it may be valid"):
            find_newest_valid(layout)


def test_a_file_that_a_symlink_leads_to_is_no_part_of_a_checkpoint(layout):
    with pytest.raises(ValueError, match="symbolic"):
        write(layout, 1, 5, {"adapter": lambda directory: (directory / "link").symlink_to("/etc/hostname")})
    assert leftovers(layout) == []


def test_nothing_valid_at_all(layout):
    assert find_newest_valid(layout) == (None, {})
    write(layout, 1, 5).write_bytes(b"")
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
    assert checkpoints.published(layout) == {}
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
        monkeypatch.setattr(tensor_file, "create_new", refuse)
    with pytest.raises(LvjobsError, match="No space left") as caught:
        write(layout, 1, 10)
    assert "lvjobs resume" in str(caught.value)
    monkeypatch.undo()
    assert find_newest_valid(layout)[0].path == old
    assert leftovers(layout) == []


def test_the_file_is_synced_before_the_rename_and_its_directory_after_it(layout, monkeypatch):
    done, real, rename = [], os.fsync, checkpoints.Path.rename
    (layout.root / "journal").touch()

    def fsync(descriptor):
        done.append(("synced", os.fstat(descriptor).st_ino))
        real(descriptor)

    def record(path, target):
        done.append(("renamed", path.stat().st_ino))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(checkpoints.Path, "rename", record)
    path, _ = write_checkpoint(layout, CheckpointName(1, 5), STATE, {}, Chain(layout.root / "journal", ""))
    journal, file, steps = ((layout.root / "journal").stat(), path.stat(), layout.steps.stat())
    assert done == [
        ("synced", journal.st_ino),
        ("synced", file.st_ino),
        ("renamed", file.st_ino),
        ("synced", steps.st_ino),
    ]


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
    doomed = set(pruning.decide_prune(there, losses, invalid, keep_last=keep_last, keep_best=keep_best))
    kept = there - doomed
    sound = sorted(there - invalid)
    assert doomed <= there
    assert kept.isdisjoint(invalid)
    assert set(sound[-keep_last:]) <= kept
    assert len(kept) <= keep_last + keep_best
    finite = {name: losses[name] for name in sound if name in losses and abs(losses[name]) < float("inf")}
    if keep_best and finite:
        assert min(losses[name] for name in kept if name in finite) == min(finite.values())


@pytest.mark.parametrize("metric", ["validation_loss", "validation_loss_numeric", "validation_mae"])
def test_pruning_on_disk(layout, metric):
    for step, loss in ((5, 3.0), (10, 1.0), (15, 2.0), (20, float("nan")), (25, 4.0)):
        write(layout, 1, step, {"x": 1}, {metric: loss})
    newer = write(layout, 2, 6, {"x": 1})
    pruning.prune(layout, 1, [CheckpointName(1, 25)], keep_last=1, keep_best=True)
    kept = {"000001-00000010.safetensors", "000001-00000020.safetensors", newer.name}
    assert {path.name for path in layout.steps.iterdir()} == kept


def test_the_best_checkpoint_by_its_own_forecasts_is_kept_where_they_are_made(layout):
    for step, loss, mae in ((5, 1.0, 3.0), (10, 2.0, 1.0), (15, 3.0, 2.0)):
        write(layout, 1, step, {"x": 1}, {"validation_loss": loss, "validation_mae": mae})
    pruning.prune(layout, 1, [], keep_last=1, keep_best=True)
    assert {path.name for path in layout.steps.iterdir()} == {
        "000001-00000010.safetensors",
        "000001-00000015.safetensors",
    }


def test_an_orphan_prunes_nothing(layout):
    for step in (5, 10, 15):
        write(layout, 1, step, {"x": 1})
    layout.generation(2).touch()
    with pytest.raises(Superseded):
        pruning.prune(layout, 1, [], keep_last=1, keep_best=True)
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
    manifest = verify(write(layout, 1, 5)).manifest
    assert manifest.files == manifest.saved == {"adapter/deep/note.txt": hashlib.sha256(b"a note").hexdigest()}
    assert manifest.format == 2


def test_a_copy_of_a_file_that_changed_is_refused(layout):
    path = write(layout, 1, 5)
    found, _ = find_newest_valid(layout)
    path.write_bytes(path.read_bytes().replace(b"a note", b"a lie!"))
    with pytest.raises(LvjobsError, match=r"adapter/deep/note.txt in .* changed after it was written.*lvjobs resume"):
        copy_saved(layout, found, layout.root / "copy")


def test_a_disk_that_is_full_when_a_run_resumes(layout, monkeypatch):
    path = write(layout, 1, 5)
    found, _ = find_newest_valid(layout)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.Path, "mkdir", refuse)
    with pytest.raises(LvjobsError, match=rf"{path.name} could not be unpacked to .*No space left.*lvjobs resume"):
        unpack(layout, 2, found)


def test_unpacked_files_are_copied_once_and_removed(layout):
    write(layout, 1, 5)
    found, _ = find_newest_valid(layout)
    directory = unpack(layout, 2, found)
    (directory / "adapter" / "mine").touch()
    assert unpack(layout, 2, found) == directory
    assert {path.name for path in (directory / "adapter").iterdir()} == {"deep", "mine"}
    checkpoints.sweep_leftovers(layout, 2)
    assert directory.is_dir(), "it is this generation's"
    checkpoints.sweep_leftovers(layout, 3)
    assert leftovers(layout) == []
