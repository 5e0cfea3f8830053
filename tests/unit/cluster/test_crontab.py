"""Entries in a crontab: the user's own lines are never touched. The program is one of ours that keeps the table."""

import pytest

from lvjobs.cluster.crontab import install, uninstall
from lvjobs.cluster.protocol import ClusterError

PROGRAM = """#!/bin/sh
table="{table}"
if [ "$1" = "-l" ]; then
  [ -f "$table" ] || {{ echo "no crontab for somebody"; exit 1; }}
  cat "$table"
else
  grep -q refuse "$1" && {{ echo "bad minute" >&2; exit 1; }}
  cat "$1" > "$table"
fi
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The table's file; `cron` on PATH is the program."""
    script = tmp_path / "bin" / "cron"
    script.parent.mkdir()
    script.write_text(PROGRAM.format(table=tmp_path / "table"))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return tmp_path / "table"


@pytest.mark.parametrize("before", [None, "", "0 1 * * * mine\n"])
def test_in_and_out_again(table, before):
    if before is not None:
        table.write_text(before)
    install("cron", "driver.a", ["* * * * * one"])
    install("cron", "driver.b", ["* * * * * two"])
    install("cron", "driver.a", ["* * * * * three"])
    lines = table.read_text().splitlines()
    assert lines[: len((before or "").splitlines())] == (before or "").splitlines()
    assert [line for line in lines if line.startswith("* ")] == ["* * * * * two", "* * * * * three"]
    assert uninstall("cron", "driver.a")
    assert not uninstall("cron", "driver.a")
    assert uninstall("cron", "driver.b")
    assert table.read_text() == (before or "")


def test_an_entry_of_an_earlier_version_is_taken_out_too(table):
    table.write_text("mine\n# driver.a: begin (lvjobs driver install)\n* * * * * one\n# driver.a: end\n")
    assert uninstall("cron", "driver.a")
    assert table.read_text() == "mine\n"


def test_an_entry_whose_end_is_lost_is_left_alone(table):
    install("cron", "driver.a", ["* * * * * one"])
    text = table.read_text().replace("# driver.a: end\n", "")
    table.write_text(text)
    assert not uninstall("cron", "driver.a")
    assert table.read_text() == text


def test_refused_is_told_and_the_table_is_as_it_was(table):
    install("cron", "driver.a", ["* * * * * one"])
    before = table.read_text()
    with pytest.raises(ClusterError, match=r"\(bad minute\), and the table was not changed; .* lvjobs watch"):
        install("cron", "driver.b", ["refuse"])
    assert table.read_text() == before


def test_a_program_that_is_not_there(table):
    assert not uninstall("no-such-cron", "driver.a")
    with pytest.raises(ClusterError, match="no-such-cron cannot be run"):
        install("no-such-cron", "driver.a", [])
