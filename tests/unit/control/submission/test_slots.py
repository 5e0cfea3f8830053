"""The arithmetic of how many jobs go now."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.cluster.protocol import Cap, Limits
from lvjobs.control.submission.slots import MARGIN, FreeSlots, choices, halves, room_for, split, with_more

USER = Cap(("user", ""), 8, "max_queued = 8")
QOS = Cap(("qos", "gpu"), 4, "QOS gpu: MaxSubmitJobsPU=4")
GROUP = Cap(("account", "lab"), 6, "account lab: GrpSubmitJobs=6", shared=True)


def test_nothing_is_known():
    assert room_for(Limits(), {("user", ""): 9}) == FreeSlots(None, "")


def test_a_place_is_left_of_a_limit_of_the_users_own():
    assert room_for(Limits((USER,)), {}).jobs == 8 - MARGIN
    assert room_for(Limits((GROUP,)), {}).jobs == 6


def test_but_never_the_last():
    assert room_for(Limits((Cap(("user", ""), 1, ""),)), {}).jobs == 1


def test_the_tightest_limit_counts_and_says_why():
    limits = Limits((USER, QOS, GROUP))
    assert room_for(limits, {}) == FreeSlots(
        3, "waits for free slots in the queue (QOS gpu: MaxSubmitJobsPU=4); lvjobs submits it when there are"
    )
    crowded = {("account", "lab"): 6, ("qos", "gpu"): 1, ("user", ""): 6}
    assert "GrpSubmitJobs=6" in room_for(limits, crowded).reason
    assert room_for(limits, crowded).jobs == 0
    assert room_for(limits, {("qos", "gpu"): 99}).jobs == 0


def test_jobs_of_another_qos_do_not_count():
    assert room_for(Limits((QOS,)), {("qos", "cpu"): 50, ("user", ""): 50}).jobs == 3


@pytest.mark.parametrize(
    ("waiting", "members", "jobs", "size"), [(27, None, None, 27), (27, 10, None, 10), (27, 10, 3, 3), (2, 10, 3, 2)]
)
def test_the_next_array(waiting, members, jobs, size):
    assert split(waiting, Limits(members=members), FreeSlots(jobs)) == size


def test_what_was_sent_is_in_the_way_of_the_next():
    limits = Limits((QOS, Cap(("qos", "gpu"), 9, "", shared=True), GROUP))
    load = with_more({("qos", "gpu"): 1, ("qos", "cpu"): 5}, limits, 2)
    assert load == {("qos", "gpu"): 3, ("account", "lab"): 2, ("qos", "cpu"): 5}


@given(st.integers(1, 10**5))
def test_halving_ends_at_one_and_is_short(size):
    tried = halves(size)
    assert list(tried) == sorted(tried, reverse=True)
    assert len(tried) <= 16
    assert all(one == before // 2 for before, one in zip([size, *tried], tried, strict=False))
    assert (tried[-1] if tried else size) == 1


def test_nothing_to_choose():
    assert choices({}) == [{}]
    assert choices({"partition": "ampere", "gpus": 1}) == [{}]
    assert choices({"qos": "gpu", "partition": ""}) == [{"qos": "gpu"}]


def test_each_qos_with_all_partitions_and_then_each_alone():
    assert choices({"qos": "a,b"}) == [{"qos": "a"}, {"qos": "b"}]
    assert choices({"partition": "p,q"}) == [{}, {"partition": "p"}, {"partition": "q"}]
    assert choices({"qos": "a,b", "partition": "p,q"}) == [
        {"qos": "a"},
        {"qos": "b"},
        {"qos": "a", "partition": "p"},
        {"qos": "a", "partition": "q"},
        {"qos": "b", "partition": "p"},
        {"qos": "b", "partition": "q"},
    ]
