"""Runs that begin from the checkpoint of another run: what they take, what they execute, and what they refuse."""

import json
import shutil

import pytest
from worker_helpers import Zygote, entries, executed, final_weights, journals, make_run, published

from lvjobs.records.checkpoint_head import read_head
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.study.parent import Parent
from lvjobs.study.run import RunFile
from lvjobs.worker import checkpoints
from lvjobs.worker.checkpoints import find_newest_valid, verify
from lvjobs.worker.parent import find_start

STEPS = 20
CONSTANT = {"params": {"constant": True}}


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def parents(zygote, tmp_path_factory):
    """A study with a finished run of 20 steps, and one of 40 steps with the same settings."""
    runs = tmp_path_factory.mktemp("study") / "checkpoints"
    for name, steps in (("short", STEPS), ("long", 2 * STEPS)):
        assert zygote.run(make_run(runs / name, steps=steps, **CONSTANT)) == 0
    return runs


@pytest.fixture
def runs(parents, tmp_path):
    shutil.copytree(parents, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def parent_of(runs, name="short", step=STEPS):
    (path,) = (path for each, path in checkpoints.published(RunLayout(runs / name)).items() if each.step == step)
    return Parent(run=name, step=step, sha256=read_head(path)[1])


def child(runs, parent=None, steps=2 * STEPS, name="child", **more):
    return make_run(runs / name, steps=steps, parent=parent or parent_of(runs), **{**CONSTANT, **more})


def test_it_ends_with_the_bits_of_one_run_of_all_steps(zygote, runs):
    layout = child(runs)
    assert zygote.run(layout) == 0
    assert executed(layout) == list(range(STEPS + 1, 2 * STEPS + 1))
    assert final_weights(layout) == final_weights(RunLayout(runs / "long"))


@pytest.mark.parametrize("step", [STEPS + 4, STEPS + 14], ids=["before its first checkpoint", "after it"])
def test_killed_it_ends_with_the_same_bits(zygote, runs, step):
    layout = child(runs)
    assert zygote.run(layout, TOY_KILL_AT=step) == -9
    assert zygote.run(layout) == 0
    assert final_weights(layout) == final_weights(RunLayout(runs / "long"))
    began = [entry["resumed_from"] for entry in entries(layout, "start")]
    second = "000000-00000020" if step < STEPS + 10 else "000001-00000030"
    assert began == ["000000-00000020", second], "the generation 0 is the parent's"


def test_its_first_checkpoint_names_the_hash_of_its_parents(zygote, runs):
    layout, parent = child(runs), parent_of(runs)
    assert zygote.run(layout) == 0
    path = next(iter(checkpoints.published(layout).values()))
    assert read_head(path)[0].parent == parent.sha256
    assert find_newest_valid(layout)[0].name == CheckpointName(1, 2 * STEPS)


def test_it_needs_the_other_run_only_for_its_first_start(zygote, runs):
    layout = child(runs)
    assert zygote.run(layout, TOY_KILL_AT=STEPS + 4) == -9
    shutil.rmtree(runs / "short")
    assert zygote.run(layout) == 0
    assert final_weights(layout) == final_weights(RunLayout(runs / "long"))


def test_an_attempt_that_was_killed_while_it_took_the_checkpoint_leaves_nothing_that_counts(zygote, runs):
    layout = child(runs)
    aside = runs / "child" / ".000000-00000020.tmp.another.1"
    aside.mkdir()
    (aside / "000001-00000020.safetensors").write_bytes(b"half")
    assert zygote.run(layout) == 0
    assert not aside.exists()
    assert final_weights(layout) == final_weights(RunLayout(runs / "long"))


@pytest.mark.parametrize("place", ["short", "child/parent"])
@pytest.mark.parametrize("damage", ["flipped", "gone", "another"])
def test_a_checkpoint_that_is_not_the_declared_one_is_never_used(zygote, runs, place, damage):
    layout = child(runs)
    if place == "child/parent":
        assert zygote.run(layout, TOY_KILL_AT=STEPS + 4) == -9
        (path,) = (runs / place).iterdir()
        shutil.copy2(path, path.with_suffix(".copy"))  # a hard link is the other run's file, too
        path.with_suffix(".copy").replace(path)
    else:
        (path,) = (path for path in (runs / place).glob("*-00000020.safetensors"))
    if damage == "flipped":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "another":
        shutil.copy2(next(runs.glob("long/*-00000030.safetensors")), path)
    elif place == "short":
        path.unlink()
    else:
        path.unlink()
        shutil.rmtree(runs / "short")
    before = executed(layout)
    assert zygote.run(layout) == 1
    (error,) = entries(layout, "error")
    said = error["message"]
    assert "the checkpoint of step 20 of short, which this run continues, cannot be used" in said
    assert said.endswith("then: lvjobs resume child")
    assert executed(layout) == before, "no step without it"


def test_it_goes_on_where_its_parent_ended_early(zygote, runs):
    layout = make_run(runs / "early", steps=40, params={"constant": True, "end_at": 15})
    assert zygote.run(layout) == 0
    assert json.loads(layout.done.read_text())["step"] == 15
    more = child(runs, parent_of(runs, "early", 15), steps=25)
    assert zygote.run(more) == 0
    assert executed(more) == list(range(16, 26))


def test_its_own_damaged_checkpoints_do_not_hide_the_parents(zygote, runs):
    layout = child(runs)
    assert zygote.run(layout, TOY_KILL_AT=STEPS + 14) == -9
    (path,) = checkpoints.published(layout).values()
    path.write_bytes(path.read_bytes()[:-1])
    assert zygote.run(layout) == 0
    assert entries(layout, "start")[1]["resumed_from"] == "000000-00000020"
    assert final_weights(layout) == final_weights(RunLayout(runs / "long"))


def test_a_child_of_a_child(zygote, runs):
    first = child(runs, steps=30)
    assert zygote.run(first) == 0
    second = child(runs, parent_of(runs, "child", 30), steps=40, name="grandchild")
    assert zygote.run(second) == 0
    assert executed(second) == list(range(31, 41))
    assert final_weights(second) == final_weights(RunLayout(runs / "long"))


def test_the_head_of_a_checkpoint_has_the_hash_that_its_verification_finds(runs):
    for path in checkpoints.published(RunLayout(runs / "short")).values():
        assert read_head(path) == (verify(path).manifest, verify(path).sha256)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0not json", b"\xff" * 9, b"\x02\0\0\0\0\0\0\0{}"])
def test_no_checkpoint_has_no_head(tmp_path, content):
    path = tmp_path / "000001-00000020.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_head(path)


def test_a_run_without_a_parent_says_nothing_of_one(runs):
    assert "parent" not in (runs / "short" / "run.json").read_text()
    assert find_start(RunLayout(runs / "new"), RunFile.read(runs / "short" / "run.json").config) == (None, {})
    assert published(RunLayout(runs / "new")) == []
    assert journals(RunLayout(runs / "new")) == []
