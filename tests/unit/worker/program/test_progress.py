"""The reports of a program: in lines, and in files that grow."""

import json
import os
import struct

import pytest

from lvjobs.records.curves import Measurement
from lvjobs.report.outputs import write_events
from lvjobs.study.program.command import CommandConfig
from lvjobs.worker.program.event_files import read_events
from lvjobs.worker.program.progress import GrowingFile, LineParser, Report


def parser(**keys):
    return LineParser(CommandConfig(command=["x"], **keys), {"steps": 12, "run": "a.b"})


@pytest.mark.parametrize(
    ("keys", "line", "reports"),
    [
        ({"progress": [r"step (?P<step>[\d,]+)"]}, "step 1,000", [Report(1000)]),
        ({"progress": [r"iter (?P<step>\S+):"], "first_step": 0}, "iter 9: loss 3", [Report(10)]),
        ({"progress": [r"iter (?P<step>\S+):"]}, "iter 9.5:", []),
        ({"progress": [r"iter (?P<step>\S+):"]}, "iter nine:", []),
        ({"progress": [r"(?P<step>\d+)/{steps} \["]}, " 25%|## | 3/12 [00:01<00:02, 3it/s]", [Report(3)]),
        ({"progress": [r"(?P<step>\d+)/{steps} \["]}, "Writing: 100%|##| 1/1 [00:01<00:02]", []),
        ({"progress": [r"{run} (?P<step>\d+)"]}, "axb 3", []),
        ({"progress": [r"(?P<step>\d+) (?P<loss>\S+) (?P<time>\S+)"]}, "3 0.5 9", [Report(3, {"loss": 0.5})]),
        ({"progress": [r"(?P<step>\d+) (?P<loss>\S+)"]}, "3 inf", [Report(3)]),
        ({"validation": [r"eval (?P<loss>\S+)"]}, "eval 0.5", [Report(None, {"loss": 0.5}, is_validation=True)]),
        (
            {"metrics": [r"lr (?P<lr>\S+)", r"norm (?P<norm>\S+)"]},
            "lr 1e-3 norm 2",
            [Report(None, {"lr": 1e-3, "norm": 2})],
        ),
        ({"metrics": [r"lr (?P<lr>\S+)"]}, "something else", []),
    ],
)
def test_what_a_line_reports(keys, line, reports):
    assert list(parser(**keys).reports(line)) == reports


def test_a_file_is_read_as_it_grows_and_a_line_once_it_is_complete(tmp_path):
    path = tmp_path / "log.jsonl"
    growing = GrowingFile(tmp_path, "log.jsonl")
    assert list(growing.records()) == [], "it does not exist yet"
    path.write_text('{"step": 1}\n[1]\nnot JSON\n{"step": 2')
    assert list(growing.records()) == [{"step": 1}]
    with path.open("a") as file:
        file.write("2}\n")
    assert list(growing.records()) == [{"step": 22}]


@pytest.mark.parametrize(
    "line", ["[" * 200_000, '{"step": 1, "x": 1' + "0" * 5000 + "}", "\0"], ids=["deep", "long", "zero"]
)
def test_a_line_that_is_no_record_is_skipped(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f'{line}\n{{"step": 2}}\n')
    assert list(GrowingFile(tmp_path, "log.jsonl").records()) == [{"step": 2}]


def test_a_row_that_is_too_long_is_skipped(tmp_path):
    (tmp_path / "log.csv").write_text("step,x\n1," + "y" * 200_000 + "\n2,3\n")
    assert list(GrowingFile(tmp_path, "log.csv").records()) == [{"step": "2", "x": "3"}]


def test_a_number_that_no_float_holds_is_no_metric():
    values = {"step": 1, "x": 10**400, "self": 1, "loss": 2}
    assert list(parser().record(values)) == [Report(1, {"loss": 2.0})]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "log.csv")
    assert list(GrowingFile(tmp_path, "log.csv").records()) == []


def test_a_table_that_is_written_again_with_more_columns_is_read_by_its_new_header(tmp_path):
    path, growing = tmp_path / "log.csv", GrowingFile(tmp_path, "log.csv")
    path.write_text("epoch,step\n0,1\n")
    assert list(growing.records()) == [{"epoch": "0", "step": "1"}]
    path.write_text("accuracy,epoch,step\n,0,1\n5,0,2\n")
    assert list(growing.records()) == [{"accuracy": "5", "epoch": "0", "step": "2"}]


def test_a_file_that_was_cut_is_read_from_its_beginning(tmp_path):
    path, growing = tmp_path / "log.jsonl", GrowingFile(tmp_path, "log.jsonl")
    path.write_text('{"step": 1000}\n')
    assert list(growing.records()) == [{"step": 1000}]
    path.write_text('{"step": 1}\n')
    assert list(growing.records()) == [{"step": 1}]


def test_the_file_that_was_made_last_is_read_from_its_beginning(tmp_path):
    for number, text in enumerate(["step,loss\n1,0.5\n", "step,loss\n2,0.25\n"]):
        (tmp_path / f"version_{number}").mkdir()
        (tmp_path / f"version_{number}" / "metrics.csv").write_text(text)
    os.utime(tmp_path / "version_0" / "metrics.csv", (1, 1))  # else both may be of one tick of the clock
    growing = GrowingFile(tmp_path, "version_*/metrics.csv")
    found = [dict(record) for record in growing.records()]
    assert found == [{"step": "2", "loss": "0.25"}]
    (report,) = parser(first_step=0).record(found[0])
    assert report == Report(3, {"loss": 0.25})


def test_the_key_of_the_step_may_have_another_name():
    (report,) = parser(progress_key="current_steps").record({"current_steps": 5, "loss": 1, "percentage": 41.7})
    assert report == Report(5, {"loss": 1.0, "percentage": 41.7})


def test_event_files_of_tensorboard_are_read_at_every_length(tmp_path):
    pytest.importorskip("tensorboard")
    measured = [Measurement("training", step, 1.5, {"loss": 1 / step, "lr": 0.5}) for step in (1, 2, 300)]
    write_events(tmp_path, measured)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data = path.read_bytes()
    whole, taken = read_events(data)
    assert taken == len(data)
    assert [each["step"] for each in whole] == [1, 2, 300]
    assert [each["training/loss"] for each in whole] == pytest.approx([1, 1 / 2, 1 / 300])
    for length in range(len(data)):
        found, taken = read_events(data[:length])
        rest, _ = read_events(data[taken:])
        assert [*found, *rest] == whole
    growing = GrowingFile(tmp_path, "events*")
    assert json.loads(json.dumps(list(growing.records()))) == whole
    assert list(growing.records()) == []


def test_bytes_that_are_no_events_raise_nothing():
    for data in (bytes(40), b"\x05" + bytes(7) + b"crc!" + b"\xff\xff\xff\xff\xff" + b"crc!", b"x" * 100):
        read_events(data)


def test_a_negative_step_of_an_event_is_no_huge_one():
    value = b"\x0a\x04loss\x15" + struct.pack("<f", 0.5)
    summary = b"\x0a" + bytes([len(value)]) + value
    event = b"\x10" + b"\xff" * 9 + b"\x01\x2a" + bytes([len(summary)]) + summary
    record = struct.pack("<Q", len(event)) + bytes(4) + event + bytes(4)
    assert read_events(record) == ([{"step": -1, "loss": 0.5}], len(record))
