"""The summary has a format, which is raised with its fields: rows of closed runs outlive the release that made them."""

from dataclasses import fields, is_dataclass

import pytest

from lvjobs.control.budget import archive
from lvjobs.control.budget.efficiency import Share
from lvjobs.control.budget.intervals import Measured
from lvjobs.control.budget.pace import Kind, Sample
from lvjobs.records import summary
from lvjobs.records.summary import FORMAT, AvoidedRow, RunStatus, StageStatus, Summary

FIELDS = {
    RunStatus: (
        "id ordinal name stage state cause step steps attempts job_id reason held_for loss "
        "untrained_loss validation_loss loss_numeric untrained_loss_numeric validation_loss_numeric "
        "checkpoint_step executed_steps replayed_steps estimated_steps flops reserved profile error "
        "not_before curve seconds_left queue_reason start_estimate after tags created ended"
    ),
    StageStatus: "name state origin runs done held trials proposed winner because by_hand reason",
    AvoidedRow: "node reason since until used_in",
    Summary: "study time did problems runs stages avoided_nodes budget answered progress",
    archive.Tally: "work shares groups samples",
    archive.StageWork: "first useful replayed validation generation estimated",
    Share: "runs attempts estimated allocated allocated_gpu used_gpu useful wall",
    Measured: "executing deaths executed stepping checkpoints checkpointing longest",
    Kind: "name profile settings model rates",
    Sample: "kind steps step_seconds windows window_seconds checkpoints checkpoint_seconds start_up",
}
"""In format 7, in their order: tallies are kept without names."""


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_a_field_is_added_with_a_new_format(kind):
    found = " ".join(item.name for item in fields(kind))
    assert (FORMAT, found) == (7, FIELDS[kind]), "raise FORMAT in lvjobs/records/summary.py, then write both here"


def test_every_part_of_the_summary_is_looked_at():
    assert {kind for kind in vars(summary).values() if is_dataclass(kind)} <= FIELDS.keys()


def test_json_keeps_its_keys():
    stage = StageStatus("a", "running", "b", 1, 0, 0, None, None, None, "", False, "")
    node = AvoidedRow("n1", "node_fail", 1.0, 2.0, [])
    shown = Summary("/s", 1.0, [], [], [], [stage], [node], {"spent": 0}).to_dict()
    assert list(shown) == [
        "schema",
        "study",
        "time",
        "did",
        "problems",
        "runs",
        "stages",
        "avoided_nodes",
        "budget",
        "answered",
        "progress",
    ]
    assert list(shown["stages"][0])[:3] == ["name", "state", "from"]
    assert shown["avoided_nodes"] == [{"node": "n1", "reason": "node_fail", "since": 1.0, "until": 2.0, "used_in": []}]
