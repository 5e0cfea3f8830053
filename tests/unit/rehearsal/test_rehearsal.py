"""A rehearsal's pure parts: what is shortened, which fault comes when, and where two runs differ."""

import random
import tracemalloc

import pytest

from lvjobs.api.rehearse import check_checkpoints, only_one
from lvjobs.errors import UsageError
from lvjobs.lab import LabError
from lvjobs.records.journal import Entry
from lvjobs.records.run_files import Claim
from lvjobs.rehearsal import differences as module
from lvjobs.rehearsal.attempts import entries_of
from lvjobs.rehearsal.differences import RunResult, differences
from lvjobs.rehearsal.faults import FaultInjector, Shape
from lvjobs.rehearsal.runs import Undisturbed, shortened
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import RunConfig


def a_run(root, lines, weights=b"weights"):
    """A run directory whose generations reported `lines`: a list of (kind, fields) each."""
    files = RunLayout(root / "study" / "checkpoints" / "run")
    (files.final / "adapter").mkdir(parents=True)
    for number, entries in enumerate(lines, start=1):
        files.journal(number).write_text("".join(Entry(kind, 1.0, fields).to_line() for kind, fields in entries))
    (files.final / "adapter" / "weights").write_bytes(weights)
    (files.final / "adapter" / "config.json").write_text(f'{{"base": "{root}/study/tiny"}}')
    (files.final / "manifest.json").write_text(f'{{"generation": {len(lines)}}}')
    return files


def start(name=None):
    return ("start", {"resumed_from": name})


def step(number, loss, **more):
    return ("step", {"step": number, "loss": loss, "seconds": number * 0.1, **more})


def differing(one, other):
    return differences(RunResult(one), RunResult(other), is_program=False)[0]


WHOLE = [[start(), step(1, 3.0), step(2, 2.0), ("validation", {"step": 2, "loss": 2.5}), step(3, 1.5)]]
RESUMED = [
    [start(), step(1, 3.0), step(2, 2.0), ("validation", {"step": 2, "loss": 2.5}), step(3, 9.0)],
    [start("000001-00000002"), step(3, 1.5)],
]


def test_a_run_that_was_resumed_is_the_same_wherever_it_lies_and_however_long_it_took(tmp_path):
    assert differing(a_run(tmp_path / "one", WHOLE), a_run(tmp_path / "other", RESUMED)) == []


@pytest.mark.parametrize("block", [1, 7, 100])
def test_a_path_in_a_file_is_left_out_wherever_a_block_ends(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    one, other = a_run(tmp_path / "one", WHOLE), a_run(tmp_path / "another", WHOLE)
    for run in (one, other):
        (run.final / "adapter" / "weights").write_text(f"a{run.root.parent.parent}/x{run.root.parent.parent}")
    assert differing(one, other) == []
    (other.final / "adapter" / "weights").write_text(f"a{other.root.parent.parent}/y{other.root.parent.parent}")
    assert [each.what for each in differing(one, other)] == ["final/adapter/weights"]


def test_a_large_file_is_not_read_into_memory(tmp_path):
    run = a_run(tmp_path, WHOLE)
    with (run.final / "large").open("wb") as stream:
        stream.truncate(100_000_000)
    tracemalloc.start()
    try:
        assert "large" in RunResult(run).files
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_the_first_step_that_differs_is_told_with_both_values(tmp_path):
    parted = [RESUMED[0], [start("000001-00000002"), step(3, 1.25)]]
    (found,) = differing(a_run(tmp_path / "one", WHOLE), a_run(tmp_path / "other", parted))
    assert str(found) == "step's loss at step 3: 1.5 undisturbed, 1.25 disturbed"


def test_a_step_that_is_missing_and_weights_that_differ_are_told(tmp_path):
    found = differing(a_run(tmp_path / "one", WHOLE), a_run(tmp_path / "other", RESUMED[:1], b"others"))
    assert [str(each) for each in found] == [
        "step's loss at step 3: 1.5 undisturbed, 9.0 disturbed",
        "final/adapter/weights differs",
    ]
    lost = [[start(), step(1, 3.0), step(2, 2.0), ("validation", {"step": 2, "loss": 2.5})]]
    (found,) = differing(a_run(tmp_path / "two", WHOLE), a_run(tmp_path / "third", lost))
    assert str(found) == "step's loss at step 3: 1.5 undisturbed, nothing disturbed"


def test_what_is_no_number_in_both_is_the_same(tmp_path):
    lines = [[start(), step(1, float("nan"))]]
    assert differing(a_run(tmp_path / "one", lines), a_run(tmp_path / "other", lines)) == []


def test_a_shortened_run_keeps_all_but_its_length():
    whole = RunConfig(task="m:f", steps=5000, checkpoint_every=250, seed=3, params={"lora_rank": 8})
    short = shortened(whole, 60)
    assert (short.steps, short.checkpoint_every, short.validate_every) == (60, 10, 10)
    assert (short.seed, short.params) == (3, {"lora_rank": 8})
    assert shortened(whole, 6).checkpoint_every == 1
    assert shortened(short, 600).steps == 60, "never longer than the run"


@pytest.mark.parametrize(
    ("words", "steps", "every"),
    [
        (["{steps}", "{checkpoint_every}"], 60, 10),
        (["{steps}"], 60, 250),
        (["{checkpoint_every}"], 5000, 833),
        ([], 5000, 250),
    ],
)
def test_a_program_is_shortened_by_what_its_command_has(words, steps, every):
    whole = RunConfig(task=COMMAND_TASK, steps=5000, checkpoint_every=250, params={"command": ["train", *words]})
    short = shortened(whole, 60)
    assert (short.steps, short.checkpoint_every) == (steps, every)


def test_a_run_without_a_second_checkpoint_is_refused():
    whole = RunConfig(task=COMMAND_TASK, steps=5000, checkpoint_every=250, params={"command": ["train", "{steps}"]})
    with pytest.raises(UsageError, match="--rehearsed-steps=1500"):
        check_checkpoints(shortened(whole, 60))
    check_checkpoints(shortened(whole, 1500))
    check_checkpoints(shortened(whole, 500))


@pytest.mark.parametrize(("gap", "seconds"), [(1.0, 120.0), (30.0, 300.0), (1000.0, 1800.0)])
def test_a_disturbed_run_hangs_after_ten_times_the_longest_silence_of_an_undisturbed_one(tmp_path, gap, seconds):
    run = a_run(tmp_path, [])
    run.generation(1).touch()
    times = (1.0, 2.0, 2.0 + gap, 2.5 + gap)
    run.journal(1).write_text("".join(Entry("step", time, {"step": 1}).to_line() for time in times))
    assert Undisturbed(run, Shape(), {}).hung_seconds == seconds


def test_an_attempt_that_was_killed_before_its_first_line_has_none(tmp_path):
    assert entries_of(a_run(tmp_path, [WHOLE[0]]), 2) == []


class Theatre:
    """A run that takes a step between two looks, and begins again when something meets it."""

    def __init__(self, root, seed, kinds=("a", "b", "c")):
        self.files = a_run(root, [])
        self.met, self.steps, self.generation = [], 0, 0
        self.injector = FaultInjector(
            self.files,
            4,
            {kind: lambda _claim, kind=kind: self.hit(kind) for kind in kinds},
            random.Random(seed),
            float("inf"),
            lambda _text: None,
        )
        self.begin(None)

    def begin(self, kind):
        if kind is not None:
            self.met.append((kind, self.steps))
        self.generation, self.steps = self.generation + 1, 0
        claim = Claim(self.generation, "t", "1", 0, "n1", 1, 1.0)
        self.files.generation(self.generation).write_text(claim.to_line())

    def hit(self, kind):
        self.begin(kind)
        return True

    def play(self, looks):
        for _ in range(looks):
            self.steps += 1
            with self.files.journal(self.generation).open("a") as stream:
                stream.write(Entry("step", 1.0, {"step": self.steps}).to_line())
            self.injector.inject()
        return self.met


def test_each_kind_comes_once_before_any_comes_again_and_each_execution_gets_to_train(tmp_path):
    met = Theatre(tmp_path, seed=1).play(60)
    kinds = [kind for kind, _ in met]
    assert len(kinds) > 6
    assert all(sorted(kinds[first : first + 3]) == ["a", "b", "c"] for first in range(0, len(kinds) - 2, 3))
    assert {steps for _, steps in met} <= set(range(1, 7))
    assert len({steps for _, steps in met}) > 1


def test_a_seed_says_what_happens_and_when(tmp_path):
    one, same, other = (Theatre(tmp_path / name, seed).play(60) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one == same != other


@pytest.mark.parametrize("kind", ["leave", "done", "error"])
def test_who_has_said_a_last_word_is_left_alone(tmp_path, kind):
    theatre = Theatre(tmp_path, seed=1)
    with theatre.files.journal(1).open("a") as stream:
        stream.write(Entry(kind, 1.0, {}).to_line())
    assert theatre.play(20) == []


@pytest.mark.parametrize("error", [LabError, UsageError])
def test_what_came_too_late_for_its_job_did_not_meet_the_run(tmp_path, error, monkeypatch):
    theatre = Theatre(tmp_path, seed=1)

    def begin(_kind):
        raise error("no job 7 in the lab's queue")

    monkeypatch.setattr(theatre, "begin", begin)
    assert theatre.play(20) == []
    assert theatre.injector.met == {}
    assert theatre.injector.dropped == ["a", "b", "c"]


def test_a_kind_that_finds_nothing_to_act_on_is_dropped_and_the_others_come_on(tmp_path, monkeypatch):
    theatre = Theatre(tmp_path, seed=1)
    monkeypatch.setattr(theatre, "hit", lambda kind: kind != "b" and (theatre.begin(kind) or True))
    met = {kind for kind, _ in theatre.play(100)}
    assert met == {"a", "c"}
    assert (theatre.injector.dropped, theatre.injector.untested) == (["b"], [])


def test_a_fault_that_came_after_the_last_step_did_not_meet_the_run_and_may_come_again(tmp_path, monkeypatch):
    theatre = Theatre(tmp_path, seed=1)

    def hit(_kind):
        with theatre.files.journal(theatre.generation).open("a") as stream:
            stream.write(Entry("done", 1.0, {"step": 4}).to_line())
        return True

    monkeypatch.setattr(theatre, "hit", hit)
    assert theatre.play(20) == []
    assert (theatre.injector.met, theatre.injector.untested) == ({}, ["a", "b", "c"])


def test_another_run_in_the_same_place_gets_the_kinds_that_are_left(tmp_path):
    theatre = Theatre(tmp_path, seed=1)
    while len(theatre.injector.untested) == 3:
        theatre.play(1)
    left = theatre.injector.untested
    for journal in theatre.files.journals.glob("*.jsonl"):
        journal.unlink()
    theatre.generation = 0
    theatre.begin(None)
    theatre.injector.begin_again(theatre.files, dict.fromkeys("abc", theatre.hit))
    theatre.play(40)
    assert (len(left), theatre.injector.untested) == (2, [])


def test_a_second_rehearsal_of_a_study_is_refused_while_the_first_one_runs(tmp_path):
    for _ in range(2):
        with (
            only_one(tmp_path / "rehearsal"),
            pytest.raises(UsageError, match="another rehearsal works"),
            only_one(tmp_path / "rehearsal"),
        ):
            pass
