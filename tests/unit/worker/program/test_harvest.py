"""The files that count as a checkpoint of a program, and those that are kept."""

import json
import os
import subprocess
import sys
import time

import pytest
from worker_helpers import journals, make_run, published

from lvjobs.study.program.command import COMMAND_TASK, CommandConfig
from lvjobs.study.program.pattern import Pattern
from lvjobs.study.run import RunFile
from lvjobs.worker import saved_files
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.checkpoints import find_newest_valid
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.program import harvest
from lvjobs.worker.program.directory import make_work
from lvjobs.worker.program.end import ProgramFailed
from lvjobs.worker.program.harvest import Harvest, outputs
from lvjobs.worker.submission import Submission

VALUES = {"out": "out", "lr": 0.5}


class Scene:
    """A run directory, and what its first attempt harvests."""

    def __init__(self, root, **keys):
        self.config = CommandConfig(command=["x"], **keys)
        self.layout = make_run(root / "run", task=COMMAND_TASK, params=self.config.model_dump(mode="json"))
        self.work = self.layout.root / "000001.work"
        (self.work / "out").mkdir(parents=True)
        self._journal = JournalWriter(self.layout.journal(1))
        config = RunFile.read(self.layout.config).config
        self.attempt = Attempt(self.layout, config, 1, Submission(self.layout, ""), self._journal, None)
        self.harvest = Harvest(self.attempt, self.config, self.work, VALUES)

    def write(self, name, content="{}"):
        path = self.work / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def close(self):
        self._journal.close()


@pytest.fixture
def scene(tmp_path):
    made = []

    def make(**keys):
        made.append(Scene(tmp_path, **keys))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_steps_in_a_checkpoint_are_journaled_before_it_is_published(scene):
    """Those that the program printed after the worker had read its output, and before it saved."""
    found = scene(checkpoint="{out}/state.json")

    def read():
        found.attempt.advance(10, {"loss": 0.5})
        found.harvest.note_step(time.time() - 5, 10)

    found.harvest.read_reports = read
    found.write("state.json")
    assert found.harvest.scan()
    written = [(entry.kind, entry.fields.get("step")) for journal in journals(found.layout) for entry in journal]
    assert [each for each in written if each[0] in ("step", "checkpoint")] == [("step", 10), ("checkpoint", 10)]


def test_a_file_that_a_process_of_the_run_has_open_for_writing_is_not_taken(scene):
    """The format is unknown, and nothing changes: only the open file tells."""
    found = scene(checkpoint="{out}/state-{step}")
    path = found.write("state-10", "half of it")
    code = "import sys; file = open(sys.argv[1], 'a'); print('open', flush=True); input()"
    writer = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"open\n"
    assert not found.harvest.scan()
    assert (found.harvest.problem, found.harvest.is_waiting) == ("state-10 is still being written", True)
    writer.communicate(b"\n")
    assert found.harvest.scan()
    assert published(found.layout) == ["000001-00000010"]


def test_an_open_file_is_found_where_the_study_is_reached_by_a_link(scene, tmp_path):
    """/proc shows the real path of a file that is open."""
    found = scene(checkpoint="{out}/state-{step}")
    found.layout.root.rename(tmp_path / "disk")
    found.layout.root.symlink_to(tmp_path / "disk")
    with found.write("state-10").open("a") as stream:
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stream)
        assert not found.harvest.scan()
        assert found.harvest.problem == "state-10 is still being written"
        writer.communicate(b"")
    assert not found.harvest.scan(finished=True, killed=True), "it was open a moment ago"
    assert found.harvest.scan()


def test_the_files_of_a_newer_generation_are_left_alone(scene):
    """A worker that was paused after its claim, and wakes up beside its successor."""
    found = scene()
    older, newer = found.layout.root / "000001.work", found.layout.root / "000003.work"
    newer.mkdir()
    attempt = Attempt(
        found.layout,
        RunFile.read(found.layout.config).config,
        2,
        Submission(found.layout, ""),
        JournalWriter(found.layout.journal(2)),
        None,
    )
    assert make_work(attempt, found.config).name == "000002.work"
    attempt.journal.close()
    assert newer.is_dir()
    assert not older.exists()


def test_a_file_that_is_open_for_reading_is_taken(scene):
    found = scene(checkpoint="{out}/state-{step}")
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); input()"
    path = found.write("state-10")
    reader = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout.readline() == b"open\n"
    assert found.harvest.scan()
    reader.communicate(b"\n")


def test_a_directory_counts_once_its_last_file_is_there(scene):
    found = scene(checkpoint="{out}/checkpoint-{step}", complete="trainer_state.json")
    found.write("checkpoint-10/model.json")
    assert not found.harvest.scan(finished=True)
    assert found.harvest.problem == "checkpoint-10 has no trainer_state.json"
    found.write("checkpoint-10/trainer_state.json")
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    assert sorted(newest.manifest.files) == [
        f"work/out/checkpoint-10/{name}.json" for name in ("model", "trainer_state")
    ]


def test_a_directory_without_a_last_file_has_to_rest(scene, monkeypatch):
    found = scene(checkpoint="{out}/step_{step}")
    found.write("step_10/model.json")
    assert not found.harvest.scan()
    found.write("step_10/optimizer.json")
    monkeypatch.setattr(harvest, "_REST_SECONDS", 0)
    assert not found.harvest.scan(), "it changed since the last scan"
    assert found.harvest.scan()
    found.write("step_20/model.json")
    assert found.harvest.scan(finished=True), "nobody is left who could change it"


def test_a_torn_file_is_not_taken(scene):
    found = scene(checkpoint="{out}/state-{step}.json")
    found.write("state-10.json", '{"step": 1')
    assert not found.harvest.scan(finished=True)
    assert "state-10.json is incomplete" in found.harvest.problem


def test_a_checkpoint_that_the_program_deletes_meanwhile_is_no_error(scene, monkeypatch):
    found = scene(checkpoint="{out}/state-{step}.json")
    found.write("state-10.json")

    def take(source, target, *, link):
        digest = saved_files.take(source, target, link=link)
        source.unlink()
        return digest

    monkeypatch.setattr(harvest, "take", take)
    assert not found.harvest.scan()
    assert found.harvest.problem == "state-10.json changed while it was taken"
    assert not published(found.layout)


def test_a_checkpoint_that_changes_meanwhile_is_not_taken(scene, monkeypatch):
    found = scene(checkpoint="{out}/state.json")
    path = found.write("state.json")
    found.harvest.note_step(0.0, 10)

    def take(source, target, *, link):
        digest = saved_files.take(source, target, link=link)
        path.write_text('{"step": 11}')
        return digest

    monkeypatch.setattr(harvest, "take", take)
    assert not found.harvest.scan()
    monkeypatch.undo()
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    assert json.loads((newest.path / "work/out/state.json").read_text()) == {"step": 11}


@pytest.mark.parametrize(("name", "in_place"), [("state-{step}.json", False), ("state.json", True)])
def test_a_name_with_a_step_is_linked_and_a_file_written_in_place_is_copied(scene, name, in_place):
    found = scene(checkpoint=f"{{out}}/{name}")
    path = found.write(name.replace("{step}", "10"))
    found.harvest.note_step(0.0, 10)
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    taken = newest.path / "work" / "out" / path.name
    assert (taken.stat().st_ino == path.stat().st_ino) is not in_place
    assert taken.stat().st_mtime_ns == path.stat().st_mtime_ns
    path.write_text("{} ")
    assert find_newest_valid(found.layout)[0] == (newest if in_place else None)


@pytest.mark.parametrize(
    ("reports", "changed", "step"),
    [
        ([(1.0, 9)], 2.0, 10),  # it saves before it prints step 10
        ([(1.0, 10)], 2.0, 10),
        ([(1.0, 10), (2.0, 11), (3.0, 12)], 2.5, 11),
        ([(1.0, 5), (2.0, 15)], 2.5, 20),  # it prints every tenth
        ([], 1.0, 0),
    ],
)
def test_the_step_of_a_checkpoint_without_one_in_its_name(scene, reports, changed, step):
    found = scene(checkpoint="{out}/state.json")
    for when, number in reports:
        found.harvest.note_step(when, number)
    path = found.write("state.json")
    os.utime(path, (changed, changed))
    assert found.harvest.scan() is (step > 0)
    assert published(found.layout) == ([f"000001-{step:08d}"] if step else [])


@pytest.mark.parametrize(
    ("checkpoint", "there", "found"),
    [
        ("{out}/checkpoint-{step}", ["checkpoint-5", "checkpoint-10", "checkpoint-x", "other-1"], [5, 10]),
        ("{out}/epoch=*-step={step}.ckpt", ["epoch=0-step=5.ckpt", "epoch=1-step=10.ckpt", "last.ckpt"], [5, 10]),
        ("{out}/[a]{lr}-{step}", ["[a]0.5-7", "a0.5-8"], [7]),
        ("{out}/{step}/model-{step}", ["3/model-3"], [3]),
        ("{out}/state", ["state", "state-2"], [None]),
    ],
)
def test_the_place_of_checkpoints(tmp_path, checkpoint, there, found):
    for name in there:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    pattern = Pattern.of(CommandConfig(command=["{lr}"], checkpoint=checkpoint, lr=0.5), VALUES)
    assert [step for step, _ in pattern.paths(tmp_path)] == found


def test_a_name_may_count_from_another_number(tmp_path):
    pattern = Pattern.of(CommandConfig(command=["x"], checkpoint="{out}/epoch_{step}", first_checkpoint=0), VALUES)
    (tmp_path / "out" / "epoch_0").mkdir(parents=True)
    assert [step for step, _ in pattern.paths(tmp_path)] == [1]


def test_the_working_directory_itself_may_be_the_place(tmp_path):
    config = CommandConfig(command=["x"], checkpoint="{out}/checkpoint.pth.tar", out=".")
    pattern = Pattern.of(config, {**VALUES, "out": "."})
    (tmp_path / "checkpoint.pth.tar").touch()
    assert [path.name for _, path in pattern.paths(tmp_path)] == ["checkpoint.pth.tar"]


def test_all_is_kept_but_links_caches_and_older_checkpoints(tmp_path):
    pattern = Pattern.of(CommandConfig(command=["x"], checkpoint="{out}/checkpoint-{step}"), VALUES)
    for name in ("out/checkpoint-5/a", "out/checkpoint-10/a", "out/model", "wandb/log", ".lvjobs/x", "b/__pycache__/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train.py").symlink_to(tmp_path / "out" / "model")
    (tmp_path / "data").symlink_to(tmp_path / "out")
    assert outputs(tmp_path, pattern, (".lvjobs", "__pycache__")) == ["out/model", "out/checkpoint-10/a", "wandb/log"]


def test_a_file_without_an_end_of_its_own_is_not_taken_from_a_program_that_was_killed(scene, monkeypatch):
    """No process has it open any more, and its format is unknown: it may be the first half."""
    found = scene(checkpoint="{out}/state-{step}")
    found.write("state-10", "half")
    assert not found.harvest.scan(finished=True, killed=True)
    assert found.harvest.problem == "state-10 was written just before the program was killed, and may be torn"
    monkeypatch.setattr(harvest, "_REST_SECONDS", 0.0)
    assert found.harvest.scan(finished=True, killed=True)


def test_a_whole_json_file_is_taken_from_a_program_that_was_killed(scene):
    found = scene(checkpoint="{out}/state-{step}.json")
    found.write("state-10.json")
    assert found.harvest.scan(finished=True, killed=True)


@pytest.mark.parametrize("ended", [{}, {"complete": "x.json"}], ids=["unmarked", "marked"])
def test_a_directory_without_a_last_file_is_not_taken_from_a_program_that_was_killed(scene, ended):
    found = scene(checkpoint="{out}/state-{step}", **ended)
    found.write("state-10/x.json")
    assert found.harvest.scan(finished=True, killed=True) is bool(ended)
    assert found.harvest.scan(finished=True) is not bool(ended)


def test_a_file_that_is_older_than_all_reports_that_are_kept_has_a_step(scene):
    """A copy of a file may keep the file's time, and the oldest reports are forgotten."""
    found = scene(checkpoint="{out}/state.json")
    os.utime(found.write("state.json"), (1e9, 1e9))
    for step in range(1, 12_000):
        found.harvest.note_step(2e9 + step, step)
    assert found.harvest.scan(finished=True)
    assert published(found.layout) == ["000001-00002000"]


def test_a_file_without_a_step_is_not_taken_and_the_reason_is_known(scene):
    found = scene(checkpoint="{out}/state.json")
    found.write("state.json")
    assert not found.harvest.scan(finished=True)
    assert found.harvest.problem == "state.json was written before a step was reported, so its step is unknown"


def test_a_checkpoint_that_is_saved_again_under_its_name_is_taken_again(scene):
    """Hard links let the program write into the published files."""
    found = scene(checkpoint="{out}/state-{step}.json")
    path = found.write("state-10.json", '{"a": 1}')
    assert found.harvest.scan()
    path.write_text('{"a": 2, "b": 3}')
    assert find_newest_valid(found.layout)[0] is None
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    assert (newest.path / "work/out/state-10.json").read_text() == '{"a": 2, "b": 3}'


def test_a_program_that_writes_into_the_checkpoint_from_which_it_resumes_leaves_the_published_one(scene):
    found = scene(checkpoint="{out}/state-{step}.json")
    found.write("state-10.json", '{"a": 1}')
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    harvest.lay_out(newest.path, newest.manifest, found.layout.root / "000002.work")
    (found.layout.root / "000002.work/out/state-10.json").write_text("{")
    assert find_newest_valid(found.layout)[0] is not None


@pytest.mark.parametrize("pattern", ["{out}/latest.json", "{out}/latest-{step}.json"])
def test_a_checkpoint_that_is_a_link_to_a_file_is_taken(scene, pattern):
    found = scene(checkpoint=pattern)
    found.write("state", '{"a": 1}')
    name = pattern.format(out="out", step=10)
    (found.work / name).symlink_to("state")
    found.harvest.note_step(0.0, 10)
    assert found.harvest.scan()
    newest, _ = find_newest_valid(found.layout)
    copy = newest.path / "work" / name
    assert not copy.is_symlink()
    assert copy.read_text() == '{"a": 1}'


def test_a_number_that_cannot_be_a_step_is_refused(scene):
    found = scene(checkpoint="{out}/state-{step}.json")
    found.write("state-1700000000.json")
    with pytest.raises(
        ProgramFailed, match=r"'state-1700000000.json' is a checkpoint of step 1700000000 by its name, and"
    ):
        found.harvest.scan()
    assert not published(found.layout)
