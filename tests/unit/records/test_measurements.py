"""Every number that a run reported: once, whatever died, and with when it was taken."""

import json

from lvjobs.records.curves import measurements, rows


def journal(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def a_step(step, time, loss):
    return {"kind": "step", "time": time, "step": step, "loss": loss, "tokens": 8}


FIRST = journal(
    {"kind": "start", "time": 0, "resumed_from": None},
    {"kind": "validation", "time": 1, "step": 0, "loss": 9.0},
    *(a_step(step, 10 + step, 1.0) for step in range(1, 7)),
    {"kind": "checkpoint", "time": 20, "step": 4, "name": "000001-00000004"},
    {"kind": "validation", "time": 20, "step": 4, "loss": 2.0, "final": True},
)
SECOND = journal(
    {"kind": "start", "time": 30, "resumed_from": "000001-00000004"},
    *(a_step(step, 30 + step, 0.5) for step in range(5, 7)),
)


def test_what_was_lost_is_there_as_it_was_done_again():
    found = measurements([FIRST, SECOND])
    assert [(each.kind, each.step) for each in found] == [
        ("validation", 0),
        *(("training", step) for step in range(1, 5)),
        ("validation", 4),
        ("training", 5),
        ("training", 6),
    ]
    assert [each.values["loss"] for each in found[-2:]] == [0.5, 0.5]
    assert found[-1].time == 36


def test_a_row_is_a_number():
    made = list(rows("one", measurements([SECOND])))
    assert made[0] == {"run": "one", "kind": "training", "step": 5, "time": 35, "metric": "loss", "value": 0.5}
    assert {row["metric"] for row in made} == {"loss", "tokens"}


def test_words_and_truths_are_no_metrics():
    assert all("final" not in each.values for each in measurements([FIRST]))


def test_a_torn_line_is_passed_over():
    assert len(measurements([FIRST + b'{"kind": "step", "ti'])) == len(measurements([FIRST]))
