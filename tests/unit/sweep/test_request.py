"""The ledger's form of a request, which earlier releases read too."""

import pytest

from lvjobs.control.stages.requests import asked_for, is_same
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request


def test_newer_keys_are_written_only_with_a_value():
    plain = Request(train={"data": "/d.h5"}, systems=[7])
    assert not {"origins", "data_systems", "baselines"} & plain.model_dump(mode="json").keys()
    assert plain.model_dump(mode="json")["systems"] == [7]
    assert Request().model_dump(mode="json")["systems"] == [], "an older key stays"
    full = plain.model_copy(update={"origins": [40], "data_systems": {"/d.h5": 20}, "baselines": ["auto-ets"]})
    assert full.model_dump(mode="json")["origins"] == [40]
    assert [Request.model_validate(each.model_dump(mode="json")) for each in (plain, full)] == [plain, full]


@pytest.mark.parametrize("more", [{"origins": [40]}, {"baselines": ["auto-ets"]}])
def test_other_origins_or_baselines_are_another_request_of_evaluations_alone(more):
    one, other = Request(systems=[7]), Request(systems=[7], **more)
    for stage, same in ((Stage(name="scores", zero_shot=["raw"]), False), (Stage(name="first"), True)):
        assert is_same(asked_for(stage, one), asked_for(stage, other)) is same
