"""A submission's file: each member is found, whatever their number and length; orders are read in pieces, also torn."""

import io

import pytest

from lvjobs.files import append_line
from lvjobs.records.submission import (
    SubmittedRun,
    find_member,
    orders_text,
    read_members,
    read_orders,
    submission_text,
)

MEMBERS = [SubmittedRun(f"run{number}", {"config": "é" * number}, number or None) for number in (7, 0, 30, 4)]


@pytest.mark.parametrize("count", range(5))
def test_each_member_is_found_and_no_other(count):
    members = MEMBERS[:count]
    data = submission_text(members)
    assert len({len(line) for line in data.splitlines()[1:]}) <= 1
    assert [find_member(io.BytesIO(data), member.name) for member in members] == members
    assert [find_member(io.BytesIO(data), name) for name in ("", "run", "run31", "zzz")] == [None] * 4
    assert read_members(io.BytesIO(data)) == sorted(members, key=lambda member: member.name)


def test_a_worker_reads_a_small_part_of_ten_thousand_members():
    data = submission_text([SubmittedRun(f"{number:05d}", {}) for number in range(10_000)])
    reads = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            reads.append(size)
            return super().read(size)

    assert find_member(Counting(data), "07345").name == "07345"
    assert sum(reads) < len(data) / 500
    assert -1 not in reads


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="format 2; this release reads 1"):
        find_member(io.BytesIO(submission_text(MEMBERS).replace(b'"format": 1', b'"format": 2')), "run0")


def test_orders_are_read_on_from_where_the_last_reading_ended(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(submission_text(MEMBERS))

    def read(start=0):
        with path.open("rb") as stream:
            return read_orders(stream, start)

    orders, end = read()
    assert (set(orders.revoked), dict(orders.allowed), end) == (set(), {}, path.stat().st_size)
    append_line(path, orders_text(allowed={"run0": 5, "run7": 9}))
    append_line(path, orders_text(allowed={"run0": 6}))
    orders, end = read(end)
    assert (set(orders.revoked), dict(orders.allowed)) == (set(), {"run0": 6, "run7": 9})
    append_line(path, orders_text(revoked=["run4"]))
    orders, last = read(end)
    assert (set(orders.revoked), dict(orders.allowed)) == ({"run4"}, {})
    assert read(last) == read(path.stat().st_size)
    assert dict(read()[0].allowed) == {"run0": 6, "run7": 9}


@pytest.mark.parametrize("length", range(1, len(orders_text(revoked=["run0"]))))
def test_a_torn_order_is_ended_and_given_again(tmp_path, length):
    """Its writer was killed, or the disk was full; nothing that depends on the order had been done."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(submission_text(MEMBERS) + orders_text(revoked=["run0"])[:length])
    with path.open("rb") as stream:
        orders, end = read_orders(stream)
    assert set(orders.revoked) == set()
    append_line(path, orders_text(revoked=["run0"]))
    append_line(path, orders_text(revoked=["run7"]))
    with path.open("rb") as stream:
        assert set(read_orders(stream, end)[0].revoked) == {"run0", "run7"}
