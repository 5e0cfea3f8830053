"""Runs that are over are read no more, and nothing that anybody is shown changes by it."""

import json
import re
import sqlite3
from dataclasses import replace

import pytest
from control_builders import NOW, a_run, an_attempt, efficiency_of
from control_scenes import Scene, make_haste
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from lvjobs.cluster import templates
from lvjobs.control.budget import archive
from lvjobs.control.budget.accounts import Terms, keep_books, statement
from lvjobs.control.budget.archive import ORPHAN_SECONDS, Tally, books_of, closed_tally, parse_tally, tally_of, total
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.budget.intervals import advise, measure
from lvjobs.control.budget.pace import samples_of
from lvjobs.control.inspect.report_data import report_data
from lvjobs.control.recovery.check import check
from lvjobs.control.submission.send import reservations_for
from lvjobs.control.summary_file import read_summary
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.records import Closed
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.words import Cause, RunState


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch):
    make_haste(monkeypatch)


@pytest.fixture
def scene(tmp_path):
    """Two runs that are completed, one of them after a death."""
    made = Scene(tmp_path)
    made.enter("one", "two")
    made.reach(6)
    made.cluster.kill(made.job().id)
    while not all(row["state"] == "completed" for row in made.rows("runs")) or len(made.rows("closed")) < 2:
        made.cluster.advance(15)
        made.one_pass()
    return made


def unclosed(scene):
    with scene.session() as session, session.ledger.transaction() as transaction:
        return [run.name for run in transaction.unclosed()]


def seen(scene):
    """Return a pass's summary, without its time."""
    with scene.session() as session:
        return {key: value for key, value in session.make_pass().items() if key != "time"}


def open_all(scene):
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.reopen_all()


# -- which runs are closed -------------------------------------------------------------------------------------------


def test_what_is_completed_is_closed_and_what_goes_on_is_not(scene):
    assert unclosed(scene) == []
    scene.enter("three")
    scene.make_pass()
    assert unclosed(scene) == ["three"]
    scene.cancel("three")
    scene.go(60)
    assert unclosed(scene) == []


def test_everything_that_is_shown_stays_as_it_was(scene):
    closed = seen(scene)
    assert closed["budget"]["by_run"] == {row["name"]: row["flops"] for row in closed["runs"]}
    assert sum(closed["budget"]["by_run"].values()) == closed["budget"]["spent"] > 0
    open_all(scene)
    assert unclosed(scene) == ["one", "two"]
    assert seen(scene) == closed
    assert unclosed(scene) == []


def test_a_pass_reads_no_row_of_closed_runs(scene, monkeypatch):
    read = []

    def noting(self, run_ids=None):
        read.extend(["all"] if run_ids is None else run_ids)
        return []

    for name in ("attempts", "charges"):
        monkeypatch.setattr(f"lvjobs.ledger.transaction.Transaction.{name}", noting)
    monkeypatch.setattr(
        "lvjobs.ledger.transaction.Transaction.runs",
        lambda *_, only_open=False: [] if only_open else pytest.fail("read all runs"),
    )
    with scene.session() as session:
        session.make_pass()
    assert read == []


def test_an_orphan_may_yet_write(scene):
    """A dead node's attempt without a last word is looked at for two days, so its run is not closed before."""
    with scene.session() as session, session.ledger.transaction() as transaction:
        silent = next(each for each in transaction.attempts() if not each.has_last_word)
        transaction.save_attempts([replace(silent, cause=Cause.NODE_FAIL)])
    scene.make_pass()
    assert unclosed(scene) == ["one"]
    scene.clock.now += ORPHAN_SECONDS
    scene.make_pass()
    assert unclosed(scene) == []


# -- and opened again ------------------------------------------------------------------------------------------------


CHANGES = {
    "runs": "UPDATE runs SET reason = 'x' WHERE name = 'one'",
    "attempts": "UPDATE attempts SET gpus = 9 WHERE run_id = :id",
    "an attempt more": "INSERT INTO attempts SELECT NULL, run_id, 99, 'cccccccccccc', job_id, 99, {rest} FROM attempts "
    "WHERE run_id = :id LIMIT 1",
    "an attempt less": "DELETE FROM attempts WHERE run_id = :id AND NOT EXISTS (SELECT 1 FROM charges WHERE attempt_id = "
    "attempts.id)",
    "charges": "UPDATE charges SET units = units + 1 WHERE run_id = :id",
    "a charge less": "DELETE FROM charges WHERE run_id = :id",
    "a reservation": "INSERT INTO reservations VALUES (:id, 1, 0, 0, 0)",
    "members": "UPDATE members SET state = 'revoked' WHERE run_id = :id",
    "a member less": "DELETE FROM members WHERE run_id = :id",
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_of_a_run_opens_it(scene, change):
    """By triggers: also where nobody thought of it."""
    connection = sqlite3.connect(scene.study.layout.database)
    with connection:
        run_id = scene.run()["id"]
        if change == "an attempt less":
            connection.execute("DELETE FROM charges WHERE run_id = :id", {"id": run_id})
            connection.execute("INSERT INTO closed (run_id, row, tally) VALUES (?, '{}', '{}')", (run_id,))
        columns = [row[1] for row in connection.execute("PRAGMA table_info(attempts)")]
        statement_ = CHANGES[change].format(rest=", ".join(columns[columns.index("restart_count") + 1 :]))
        changed = connection.execute(statement_, {"id": run_id}).rowcount
        left = [row[0] for row in connection.execute("SELECT run_id FROM closed")]
    connection.close()
    assert changed > 0
    assert left == [scene.run("two")["id"]]


def test_what_is_kept_of_open_runs_follows(scene):
    """In one session, also where it was a trigger that opened a run."""
    with scene.session() as session, session.ledger.transaction() as transaction:
        run_id = scene.run()["id"]
        assert transaction.unclosed() == []
        transaction.save_attempts([transaction.attempts([run_id])[0]])
        assert [run.name for run in transaction.unclosed()] == ["one"]
        transaction.reopen_all()
        assert len(transaction.unclosed()) == 2
        transaction.update_run(run_id, reason="because")
        assert transaction.find_runs([run_id])[0].reason == "because"


@pytest.mark.parametrize(("convention", "rate"), [("exact", 7), ("published-formula", 1), ("report", 1)])
def test_other_rules_work_everything_out_anew(scene, convention, rate):
    """`report` is what earlier releases called `published-formula`, in study.toml and in the rates of their runs."""
    spent = seen(scene)["budget"]["spent"]
    with scene.session() as session, session.ledger.transaction() as transaction:
        ids = [run.id for run in transaction.runs()]
        rates = {"official": {"training": 100}, "exact": {"training": 7}, "report": {"training": 1}}
        transaction.update_runs({run_id: {"rates": rates} for run_id in ids})
    scene.make_pass()
    scene.bind(convention=convention)
    shown = seen(scene)
    assert shown["budget"]["spent"] * 100 == spent * rate
    assert sum(row["flops"] for row in shown["runs"]) == shown["budget"]["spent"]


def test_what_an_earlier_release_charged_by_other_rules_is_charged_anew(scene):
    before = scene.dump(["charges"])
    with scene.session() as session, session.ledger.transaction() as transaction:
        run_id = next(run.id for run in transaction.runs() if run.name == "one")
        wrong = [
            replace(charge, kind="replayed") for charge in transaction.charges([run_id]) if charge.kind == "useful"
        ]
        transaction.replace_charges({run_id: wrong})
        basis = transaction.row("closed_basis", archive._Basis)
        transaction.set_rows("closed_basis", [replace(basis, format=basis.format - 1)])
    scene.make_pass()
    order = [{key: row[key] for key in ("attempt_id", "kind", "units", "estimated")} for row in before["charges"]]
    after = [{key: row[key] for key in order[0]} for row in scene.rows("charges")]
    assert sorted(after, key=str) == sorted(order, key=str)


def test_a_profile_is_compiled_only_where_it_was_edited_and_other_gpus_work_everything_out_anew(
    scene, tmp_path, monkeypatch
):
    profile = tmp_path / "mine.sh.j2"
    profile.write_text(templates.shipped("lab").read_text())
    monkeypatch.setattr(templates, "shipped", lambda _: profile)
    scene.make_pass()
    done = []
    compiled, reopened = archive.gpus_by_default, Transaction.reopen_all
    monkeypatch.setattr(archive, "gpus_by_default", lambda name: done.append("compiled") or compiled(name))
    monkeypatch.setattr(Transaction, "reopen_all", lambda self: done.append("reopened") or reopened(self))

    def of_a_pass():
        done.clear()
        scene.one_pass()
        return [*done]

    assert of_a_pass() == []
    profile.write_text(profile.read_text() + "# a word more\n")
    assert of_a_pass() == ["compiled"]
    assert of_a_pass() == []
    profile.write_text(profile.read_text().replace("gpus | default(1)", "gpus | default(4)"))
    assert of_a_pass() == ["compiled", "reopened"]
    assert of_a_pass() == ["compiled"], "its template, after the rows were made"
    assert of_a_pass() == []
    for gpus in ("(2)", "(4)"):  # and back again before the next pass
        profile.write_text(re.sub(r"gpus \| default\(.\)", f"gpus | default{gpus}", profile.read_text()))
        assert of_a_pass() == ["compiled", "reopened"]
    profile.unlink()
    assert of_a_pass() == ["compiled", "reopened"], "no profile, no GPUs"


def test_what_another_release_closed_is_not_read(scene):
    """Its tallies may be of another shape."""
    shown = seen(scene)
    with scene.session() as session, session.ledger.transaction() as transaction:
        basis = transaction.row("closed_basis", archive._Basis)
        transaction.set_rows("closed_basis", [replace(basis, format=0)])
    connection = sqlite3.connect(scene.study.layout.database)
    with connection:
        connection.execute("UPDATE closed SET tally = '[]'")
        connection.execute("DELETE FROM closed_sums")
    connection.close()
    assert seen(scene) == shown


def test_a_report_prices_all_runs_by_what_binds_now(scene):
    """It makes no pass."""
    with scene.session() as session, session.ledger.transaction() as transaction:
        rates = {"official": {"training": 100}, "exact": {"training": 7}, "report": {"training": 1}}
        transaction.update_runs({run.id: {"rates": rates} for run in transaction.runs()})
    scene.make_pass()
    scene.bind(convention="exact")
    with scene.session() as session:
        summary = report_data(session)["summary"]
    assert sum(run.flops for run in summary.runs) == summary.budget["spent"] > 0


def test_more_runs_are_named_than_an_older_sqlite_has_variables(tmp_path):
    connection = sqlite3.connect(":memory:")
    if not hasattr(connection, "setlimit"):
        pytest.skip("this Python cannot limit SQLite")
    connection.close()
    runs = [
        a_run(id=f"{number:08x}", name=f"run{number}", ordinal=number, fingerprint=f"{number:016x}")
        for number in range(2000)
    ]
    ledger = open_ledger(tmp_path / "runs.db", 1)
    with ledger.transaction() as transaction:
        transaction.add_runs(runs)

    @event.listens_for(Engine, "connect")
    def limited(connection, _record):
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)

    try:
        with ledger.transaction() as transaction:
            ids = [run.id for run in runs]
            assert [run.id for run in transaction.unclosed()] == ids
            assert transaction.attempts(ids) == []
            assert transaction.closed_among(ids) == set()
            transaction.close_runs([Closed(run_id, "{}", "{}") for run_id in ids])
            assert [run.id for run in transaction.find_runs(ids)] == ids
            assert transaction.closed_among(ids) == set(ids)
    finally:
        event.remove(Engine, "connect", limited)
        ledger.close()


def test_a_sum_that_is_of_another_set_is_made_anew(scene):
    with scene.session() as session, session.ledger.transaction() as transaction:
        before = closed_tally(transaction)
        transaction.set_rows("closed_sums", [archive._Sums(1, "1", "nonsense")])
        assert closed_tally(transaction) == before


def test_a_closed_run_that_is_named_has_its_account(scene):
    """Else it would be allowed what it has executed once more."""
    with scene.session() as session, session.ledger.transaction() as transaction:
        (run,) = transaction.find_runs([scene.run()["id"]])
        known = (transaction, session.terms, session.study.layout, session.clock())
        assert books_of(*known).accounts == {}
        executed = books_of(*known, [run]).accounts[run.id].executed
        wanted, _ = reservations_for(transaction, [run], *known[1:])
    assert executed.training >= scene.steps
    assert wanted[run.id].training > executed.training


def test_check_finds_sums_that_are_wrong(scene):
    assert check(scene.study, wait=1).findings == () or all(
        "add up" not in found.what for found in check(scene.study, wait=1).findings
    )
    with scene.session() as session, session.ledger.transaction() as transaction:
        wrong = total([closed_tally(transaction)] * 2).to_json()
        transaction.set_rows("closed_sums", [archive._Sums(*transaction.closed_mark(), wrong)])
    assert any("add up" in found.what for found in check(scene.study, wait=1).findings)


# -- what passes leave -----------------------------------------------------------------------------------------------


def test_a_reader_gets_all_rows_in_order(scene):
    scene.enter("three")
    scene.make_pass()
    summary = read_summary(scene.study.layout.summary)
    assert [row["name"] for row in summary["runs"]] == ["one", "two", "three"]
    assert set(summary["budget"]["by_run"]) == {"one", "two", "three"}
    assert [row["name"] for row in json.loads(scene.study.layout.summary.read_text())["runs"]] == ["three"]


@pytest.mark.parametrize("damage", ["gone", "half", "a digit", "another format", "older"])
def test_rows_that_are_not_there_are_missed_and_written_anew(scene, damage):
    path = scene.study.layout.internal / "closed_runs.json"
    text = path.read_text()
    path.unlink()
    damaged = {
        "half": text[: len(text) // 2],
        "a digit": text.replace('"steps": [12]', '"steps": [13]'),
        "another format": text.replace('"format": 1', '"format": 2'),
        "older": '{"mark": [1, 1], "runs": []}',
    }
    if damage in damaged:
        assert damaged[damage] != text
        path.write_text(damaged[damage])
    torn = read_summary(scene.study.layout.summary)
    assert torn["runs"] == []
    assert "lvjobs status" in torn["problems"][-1]
    assert [row["name"] for row in seen(scene)["runs"]] == ["one", "two"]
    healed = read_summary(scene.study.layout.summary)
    assert [row["name"] for row in healed["runs"]] == ["one", "two"]
    assert healed["problems"] == []


def test_rows_that_an_earlier_release_wrote_are_read_until_the_next_pass(scene):
    former, path = (scene.study.layout.internal / name for name in ("closed.json", "closed_runs.json"))
    before = dict(read_summary(scene.study.layout.summary))
    rows = [json.loads(row["row"]) for row in scene.rows("closed")]
    former.write_text(json.dumps({"mark": json.loads(scene.study.layout.summary.read_text())["closed"], "runs": rows}))
    path.unlink()
    assert dict(read_summary(scene.study.layout.summary)) == before
    assert seen(scene)["runs"] == before["runs"]
    assert path.exists()
    assert not former.exists()


def test_a_run_that_was_opened_again_since_is_shown_once(scene):
    path = scene.study.layout.summary
    summary = json.loads(path.read_text())
    (closed, _) = read_summary(path)["runs"]
    path.write_text(json.dumps({**summary, "runs": [{**closed, "state": "running"}]}))
    shown = read_summary(path)
    assert [(row["name"], row["state"]) for row in shown["runs"]] == [("one", "running"), ("two", "completed")]


def test_what_is_closed_is_not_written_again(scene):
    path = scene.study.layout.internal / "closed_runs.json"
    before = path.stat().st_mtime_ns, path.stat().st_ino
    scene.enter("three")
    scene.make_pass()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_rows_that_another_ledger_left_are_not_taken_for_this_ones(scene):
    """As where an older copy of runs.db was put in its place: as many runs are closed soon, and in the same order."""
    path, database = scene.study.layout.internal / "closed_runs.json", scene.study.layout.database
    open_all(scene)
    copy = database.read_bytes()
    scene.one_pass()
    path.write_text(path.read_text().replace('"completed"', '"cancelled"'))
    database.write_bytes(copy)
    assert {row["state"] for row in seen(scene)["runs"]} == {"completed"}


def test_a_summary_of_an_earlier_release_is_read(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"schema": 1, "runs": [{"id": "a"}], "budget": {"by_run": {}}}')
    assert [row["id"] for row in read_summary(path)["runs"]] == ["a"]


# -- tallies ---------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw):
    """Runs that are over, of a few stages and settings, each with its attempts."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        rates = {"official": {"training": draw(st.sampled_from([10**21, 7])), "validation": 3, "generation": 1}}
        run = a_run(
            id=f"r{number}", name=f"run{number}", ordinal=number + 1, stage=draw(st.sampled_from(["a", "b"])),
            profile=draw(st.sampled_from(["lab", "csd3"])), rates=rates, state=RunState.COMPLETED,
            config={"steps": 100, "checkpoint_every": draw(st.sampled_from([10, 25]))},
        )  # fmt: skip
        attempts = []
        for generation in range(1, draw(st.integers(0, 3)) + 1):
            executed = draw(st.integers(0, 100))
            attempts.append(an_attempt(
                generation, id=10 * number + generation, run_id=run.id, started=NOW - 500, ended=NOW - 100,
                restart_count=generation, cause=draw(st.sampled_from([Cause.KILLED, Cause.NODE_FAIL, Cause.COMPLETED])),
                step=executed, executed=executed, checkpoint_step=executed // 10 * 10, train_seconds=executed * 0.5,
                validation_windows=draw(st.integers(0, 9)), validation_seconds=2.0, checkpoints=executed // 10,
                checkpoint_seconds=0.25, allocated_seconds=draw(st.sampled_from([None, 256.0])), gpus=1,
            ))  # fmt: skip
        made.append((run, attempts))
    return made


@given(histories())
def test_tallies_of_runs_add_up_to_what_their_rows_say(history):
    """And go through JSON unchanged. FLOPs are beyond what SQLite or floats could sum."""
    runs = [run for run, _ in history]
    attempts = {run.id: own for run, own in history}
    every = [attempt for own in attempts.values() for attempt in own]
    terms = Terms(10**27)
    books = keep_books(terms, runs, [charge for run in runs for charge in charges_of(run, attempts[run.id])], {})
    tallies = [tally_of([run], books, attempts, NOW, {}) for run in runs]
    for tally in tallies:
        assert parse_tally(tally.to_json()) == tally
    whole = total(tallies)
    assert tally_of(runs, books, attempts, NOW, {}).work == whole.work
    assert statement(replace(books, accounts={}, closed=whole.accounts)) == statement(books)
    expected = efficiency_of(runs, attempts, NOW)
    assert {key: vars(share) for key, share in whole.shares.items()} == pytest.approx(
        {key: pytest.approx(vars(share)) for key, share in expected.by_stage.items()}
    )
    assert [advice.words for advice in advise(whole.groups)] == [a.words for a in advise(measure(runs, attempts))]
    assert whole.samples == samples_of(runs, every)


def test_nothing_adds_nothing():
    assert total([]) == Tally() == parse_tally(Tally().to_json())
