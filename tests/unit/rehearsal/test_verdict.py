"""The verdict on a rehearsal, from the results of undisturbed and disturbed runs."""

import io
import zipfile

import pytest

from lvjobs.records.journal import Entry
from lvjobs.rehearsal.differences import RunResult, differences
from lvjobs.rehearsal.verdict import Disturbed, Judgement, failure_of, judge, worst
from lvjobs.study.layout import RunLayout

COMPLETED = {"state": "completed", "step": 40, "reason": ""}


def an_attempt(steps, resumed_from=0, **metrics):
    name = f"000001-{resumed_from:08d}" if resumed_from else None
    lines = [Entry("claim", 1.0, {}), Entry("start", 1.0, {"resumed_from": name})]
    return [*lines, *(Entry("step", 1.0, {"step": step, "loss": 1 / (step or 1), **metrics}) for step in steps)]


def a_result(root, attempts, files):
    run = RunLayout(root / "study" / "checkpoints" / "run")
    run.final.mkdir(parents=True)
    for number, entries in enumerate(attempts, start=1):
        run.journal(number).write_text("".join(entry.to_line() for entry in entries))
    for name, content in files.items():
        (run.final / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return RunResult(run)


CHECKPOINT = {"ckpt.pt": "weights"}


class Scene:
    """An undisturbed run of 40 steps, and others beside it."""

    def __init__(self, root):
        self.root = root
        self.alone = self.of("alone", [an_attempt(range(1, 41))])

    def of(self, name, attempts, files=CHECKPOINT):
        return a_result(self.root / name, attempts, files)

    def verdict(self, attempts, files=CHECKPOINT, again=None, tolerance=0.0, alone=None):
        result = self.of("disturbed", attempts, files)
        disturbed = Disturbed(result, COMPLETED, attempts, {"killed": 1}, 10)
        first = alone or self.alone
        return failure_of(disturbed) or judge(first, disturbed, again, tolerance, is_program=True)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


RESUMED = [an_attempt(range(1, 26)), an_attempt(range(21, 41), 20)]


def test_equal_results_are_bitwise(scene):
    found = scene.verdict(RESUMED)
    assert (found.verdict, found.equal_metrics, found.equal_files, found.notes) == ("bitwise", 1, 1, [])


def test_a_run_without_metrics_and_files_cannot_be_compared(scene):
    alone = scene.of("first", [], {})
    found = judge(alone, Disturbed(scene.of("disturbed", [], {}), COMPLETED, []), None, 0.0, is_program=True)
    assert (found.verdict, "nothing to compare" in found.reason) == ("untested", True)


def test_a_run_that_differs_since_it_resumed_names_the_attempt(scene):
    attempts = [an_attempt(range(1, 26)), an_attempt(range(21, 41), 20, loss=0.5)]
    again = scene.of("again", [an_attempt(range(1, 41))])
    found = scene.verdict(attempts, again=again)
    assert (found.verdict, found.is_deterministic, found.since) == ("differs", True, (2, 20))
    assert str(found.differences[0]) == "step's loss at step 21: 0.047619047619047616 undisturbed, 0.5 disturbed"


@pytest.mark.parametrize(("tolerance", "verdict"), [(0.0, "differs"), (0.03, "differs"), (0.05, "within_tolerance")])
def test_the_last_loss_decides_whether_a_result_is_near(scene, tolerance, verdict):
    attempts = [an_attempt(range(1, 26)), an_attempt(range(21, 41), 20, loss=0.026)]
    found = scene.verdict(attempts, tolerance=tolerance)
    assert found.verdict == verdict
    assert found.metric.apart == pytest.approx(0.04)


def test_a_loss_that_two_undisturbed_runs_do_not_share_is_not_deterministic(scene):
    files = {"ckpt.pt": "other weights", "config": "same"}
    alone = scene.of("first", [an_attempt(range(1, 41))], {"ckpt.pt": "weights", "config": "same"})
    again = scene.of("again", [an_attempt(range(1, 41), loss=0.7)], files)
    attempts = [an_attempt(range(1, 26)), an_attempt(range(21, 41), 20, loss=0.5)]
    found = scene.verdict(attempts, files, again, alone=alone)
    assert (found.verdict, found.is_deterministic) == ("differs", False)
    assert found.metric.own_apart == pytest.approx(27)


def test_equal_weights_count_although_the_steps_of_losses_differ_in_every_run(scene):
    again = scene.of("again", [an_attempt(range(1, 41), loss=0.7)])
    found = scene.verdict([an_attempt(range(1, 26)), an_attempt(range(21, 41), 20, loss=0.5)], again=again)
    assert (found.verdict, found.notes) == ("bitwise", ["step's loss differs in every run"])


def test_equal_texts_do_not_count_as_weights(scene):
    def files(text):
        return {"adapter": f"\0{text}", "tokenizer.json": "same, and most bytes"}

    alone = scene.of("first", [an_attempt(range(1, 41))], files("a"))
    again = scene.of("again", [an_attempt(range(1, 41), loss=0.7)], files("b"))
    attempts = [an_attempt(range(1, 26)), an_attempt(range(21, 41), 20, loss=0.5)]
    found = scene.verdict(attempts, files("c"), again, alone=alone)
    assert (found.verdict, found.is_deterministic) == ("differs", False)


def test_files_and_speeds_that_differ_in_every_run_are_not_compared(scene):
    alone = scene.of("first", [an_attempt(range(1, 41), speed=1.0)], {**CHECKPOINT, "times.txt": "10"})
    again = scene.of("again", [an_attempt(range(1, 41), speed=2.0)], {**CHECKPOINT, "times.txt": "11"})
    attempts = [an_attempt(range(1, 26), speed=3.0), an_attempt(range(21, 41), 20, speed=3.0)]
    found = scene.verdict(attempts, {**CHECKPOINT, "times.txt": "12"}, again, alone=alone)
    assert (found.verdict, found.equal_files) == ("bitwise", 1)
    assert found.notes == ["step's speed differs in every run", "final/times.txt differs in every run"]


@pytest.mark.parametrize(("name", "verdict"), [("residual", "differs"), ("speed", "bitwise")])
def test_a_run_without_a_loss_is_deterministic_if_another_metric_is(scene, name, verdict):
    """A residual that differs in every run is no speed: nothing else shows that the run trains equally."""

    def attempt(steps, resumed_from, value):
        more = {"residual": 1.0, name: value, "lr": 0.1}
        lines = an_attempt([], resumed_from)
        return [*lines, *(Entry("step", 1.0, {"step": step, **more}) for step in steps)]

    def files(text):
        return {"ckpt.pt": text, "config": "same, and most bytes"}

    alone = scene.of("first", [attempt(range(1, 41), 0, 1.0)], files("a"))
    again = scene.of("again", [attempt(range(1, 41), 0, 2.0)], files("b"))
    attempts = [attempt(range(1, 26), 0, 3.0), attempt(range(21, 41), 20, 3.0)]
    found = scene.verdict(attempts, files("c"), again, alone=alone)
    assert (found.verdict, found.is_deterministic) == (verdict, verdict == "bitwise")


def test_a_run_of_which_nothing_can_be_compared_was_not_tested(scene):
    def attempt(resumed_from):
        return [*an_attempt([], resumed_from), Entry("step", 1.0, {"step": resumed_from + 1})]

    alone = scene.of("first", [attempt(0)], {"a": "1"})
    found = scene.verdict([attempt(0), attempt(20)], {"b": "1"}, alone=alone)
    assert found.verdict == "untested"
    assert "nothing to compare" in found.reason


def test_a_file_of_the_program_is_compared_although_it_is_named_as_that_of_lvjobs(tmp_path):
    one, other = (a_result(tmp_path / text, [], {"manifest.json": text}) for text in "ab")
    for each, text in ((one, "1"), (other, "2")):
        (each.run.final / "out").mkdir()
        (each.run.final / "out" / "manifest.json").write_text(text)
    found, _ = differences(one, other, is_program=True)
    assert [each.what for each in found] == ["final/out/manifest.json"]


def test_a_checkpoint_that_differs_only_after_a_resume_is_a_difference(scene):
    again = scene.of("again", [an_attempt(range(1, 41))])
    found = scene.verdict(RESUMED, {"ckpt.pt": "others"}, again)
    assert (found.verdict, [each.what for each in found.differences]) == ("differs", ["final/ckpt.pt"])


def test_a_log_that_lacks_lines_and_files_of_one_run_alone_are_notes(tmp_path):
    lines = [f"step {number}" for number in range(9)]
    one = a_result(tmp_path / "one", [], {"log": "\n".join(lines), "begun": "", "events.1764362.7": "x"})
    other = a_result(tmp_path / "other", [], {"log": "\n".join(lines[5:]), "events.1764399.7": "x"})
    assert differences(one, other, is_program=True) == (
        [],
        [
            "final/begun is only in the undisturbed run",
            "final/log lacks lines that were written before the last resume",
        ],
    )
    found, _ = differences(one, other, is_program=False)
    assert [each.what for each in found] == ["final/begun", "final/log"]


def test_each_part_of_a_model_is_compared_although_its_name_has_a_number(tmp_path):
    last = {"model-00002-of-00002.bin": "same"}
    one = a_result(tmp_path / "one", [], {"model-00001-of-00002.bin": "a", **last})
    other = a_result(tmp_path / "other", [], {"model-00001-of-00002.bin": "b", **last})
    found, _ = differences(one, other, is_program=True)
    assert [each.what for each in found] == ["final/model-00001-of-00002.bin"]
    assert one.equal_files(other) == {"model-00002-of-00002.bin"}


def test_a_log_with_other_lines_is_a_difference(tmp_path):
    one = a_result(tmp_path / "one", [], {"log": "a\nb\nc"})
    other = a_result(tmp_path / "other", [], {"log": "b\nx"})
    found, notes = differences(one, other, is_program=True)
    assert ([each.what for each in found], notes) == (["final/log"], [])


def torch_archive(arrays, values):
    """The bytes of a file of torch.save: its arrays, and its other values."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("ckpt/data.pkl", values)
        for number, each in enumerate(arrays):
            archive.writestr(f"ckpt/data/{number}", each)
    return stream.getvalue()


def test_arrays_decide_where_there_are_any(tmp_path):
    """A Trainer's `training_args.bin` holds none. It has the path from which it resumed."""
    state, arguments = torch_archive(["ab", "c"], "step 4, 10:00"), torch_archive([], "none")
    one = a_result(tmp_path / "one", [], {"model.pt": state, "args.bin": arguments, "readme": "x"})
    same = {"model.pt": torch_archive(["ab", "c"], "step 4, 11:00"), "args.bin": torch_archive([], "resumed")}
    found, notes = differences(one, a_result(tmp_path / "same", [], {**same, "readme": "y"}), is_program=True)
    assert (found, notes) == (
        [],
        [
            "final/args.bin differs, and holds no arrays",
            "final/model.pt differs, but its arrays are equal",
            "final/readme differs, and holds no arrays",
        ],
    )
    other = a_result(tmp_path / "other", [], {**same, "model.pt": torch_archive(["ab", "d"], "step 4, 10:00")})
    found, _ = differences(one, other, is_program=True)
    assert [each.what for each in found] == ["final/model.pt"]
    raw = a_result(tmp_path / "raw", [], {"state.bin": b"\xff\x00"})
    found, _ = differences(raw, a_result(tmp_path / "raw2", [], {"state.bin": b"\xff\x01"}), is_program=True)
    assert [each.what for each in found] == ["final/state.bin"]


@pytest.mark.parametrize(
    ("attempts", "row", "met", "verdict", "words"),
    [
        (RESUMED, {**COMPLETED, "state": "held", "cause": "killed"}, 1, "does_not_resume", "held at step 40: killed"),
        (
            [[Entry("error", 1.0, {"type": "KeyError", "message": "'x'"})]],
            {**COMPLETED, "state": "held", "cause": "code_error"},
            1,
            "does_not_resume",
            "held at step 40: KeyError: 'x'",
        ),
        (RESUMED, COMPLETED, 0, "untested", "no fault was injected"),
        ([an_attempt(range(1, 26)), an_attempt(range(1, 41), 20)], COMPLETED, 1, "does_not_resume", "began at step 1"),
        ([an_attempt(range(1, 26)), an_attempt(range(1, 41))], COMPLETED, 1, "does_not_resume", "executed 25 steps"),
        ([an_attempt(range(1, 6)), an_attempt(range(1, 41))], COMPLETED, 1, "untested", "nothing was resumed"),
        ([an_attempt(range(25)), an_attempt(range(20, 40), 20)], COMPLETED, 1, None, ""),
        ([an_attempt(range(1, 26)), [], an_attempt(range(21, 41), 20)], COMPLETED, 1, None, ""),
    ],
)
def test_a_run_that_does_not_resume_and_one_that_was_not_tested_are_not_compared(
    scene, attempts, row, met, verdict, words
):
    """Steps may be counted from 0. An attempt may fail before it begins."""
    disturbed = Disturbed(scene.alone, row, attempts, {"killed": met} if met else {}, 10)
    found = failure_of(disturbed)
    assert (found and found.verdict) == verdict
    assert words in (found.reason if found else "")


def test_a_program_without_steps_that_begins_again_is_seen_by_its_checkpoints(scene):
    def attempt(resumed_from, *saved):
        return [*an_attempt([], resumed_from), *(Entry("checkpoint", 1.0, {"step": step}) for step in saved)]

    resumed = [attempt(0, 10, 20), attempt(20, 30, 40)]
    assert failure_of(Disturbed(scene.alone, COMPLETED, resumed, {"killed": 1}, 10)) is None
    again = [attempt(0, 10, 20), attempt(20, 10, 20, 30, 40)]
    found = failure_of(Disturbed(scene.alone, COMPLETED, again, {"killed": 1}, 10))
    assert found.verdict == "does_not_resume"
    assert found.reason == "it got the checkpoint of step 20, but wrote that of step 10 again"


def test_of_several_runs_the_worst_counts_and_an_untested_one_does_not():
    assert worst([Judgement("bitwise"), Judgement("untested")]).verdict == "bitwise"
    assert (
        worst([Judgement("bitwise"), Judgement("does_not_resume"), Judgement("differs")]).verdict == "does_not_resume"
    )
