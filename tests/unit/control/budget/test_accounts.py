"""The books: exact integers, whose parts sum to the whole, over any history of journals."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from control_builders import a_run
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.control.budget.accounts import KINDS, Terms, keep_books, statement
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.observe import read_attempts
from lvjobs.ledger.records import Charge, WorkCounts
from lvjobs.records.journal import Entry
from lvjobs.records.run_files import Claim
from lvjobs.study.layout import RunLayout

RATES = {
    "official": {"training": 10**19 + 1, "validation": 10**17 + 3, "generation": 7},
    "exact": {"training": 5, "validation": 3, "generation": 2},
    "published-formula": {"training": 1, "validation": 1, "generation": 1},
}


def a_priced_run(**changes):
    return a_run(rates=RATES, config={"steps": 1000, "checkpoint_every": 250}, **changes)


def books(charges, reservations=None, **terms):
    runs = [a_priced_run(), a_priced_run(id="r2", name="two", stage="stage1")]
    return keep_books(Terms(10**25, **terms), runs, charges, reservations or {})


CHARGES = [
    Charge("r1", 1, "useful", 250),
    Charge("r1", 1, "replayed", 70, 20),
    Charge("r1", 1, "validation", 64),
    Charge("r2", 2, "generation", 5),
]


def test_the_statement_is_exact_and_its_parts_sum_to_the_whole():
    kept = books(CHARGES)
    said = statement(kept)
    assert said["useful"] == 250 * (10**19 + 1)
    assert said["replayed"] == 70 * (10**19 + 1)
    assert said["estimated"] == 20 * (10**19 + 1)
    assert said["validation"] == 64 * (10**17 + 3)
    assert said["generation"] == 35
    assert said["spent"] == sum(said[kind] for kind in KINDS)
    assert said["spent"] == sum(said["by_stage"].values())
    assert said["spent"] == sum(account.spent(kept.terms) for account in kept.accounts.values())
    assert said["by_stage"] == {"train": said["spent"] - 35, "stage1": 35}
    assert said["by_convention"] == {
        "official": said["spent"],
        "exact": 320 * 5 + 64 * 3 + 10,
        "published-formula": 320 + 64 + 5,
    }
    assert json.loads(json.dumps(said)) == said


def test_what_is_reserved_is_what_is_not_yet_executed_kind_by_kind():
    opened = books(CHARGES, {"r1": WorkCounts(1250, 60, 0), "r2": WorkCounts(1250, 100, 5)}, convention="exact")
    assert opened.reserved == (1250 - 320) * 5 + 0 * 3 + 1250 * 5 + 100 * 3 + 0 * 2
    assert opened.free == 10**25 - opened.spent - opened.reserved


def test_inference_counts_unless_the_study_says_otherwise():
    reservations = {"r1": WorkCounts(1250, 100, 10)}
    all_in, training = books(CHARGES, reservations), books(CHARGES, reservations, counts_inference=False)
    assert training.spent == 320 * (10**19 + 1)
    assert training.reserved == 930 * (10**19 + 1)
    assert all_in.spent - training.spent == 64 * (10**17 + 3) + 35
    said = statement(training)
    assert said["validation"] == 64 * (10**17 + 3), "shown all the same"
    assert said["spent"] == said["useful"] + said["replayed"]
    assert sum(said["by_stage"].values()) == said["spent"]


def test_a_run_of_an_earlier_release_is_counted_by_the_convention_it_knows():
    old = replace(a_priced_run(), rates={"official": RATES["official"]})
    opened = keep_books(Terms(10**25, convention="exact"), [old], [Charge("r1", 1, "useful", 2)], {})
    assert opened.spent == 2 * (10**19 + 1)
    assert statement(opened)["by_convention"]["published-formula"] is None


attempts = st.lists(
    st.tuples(
        st.integers(0, 40),  # steps
        st.integers(0, 3),  # validations
        st.sampled_from(["done", "leave", "error", "torn", "mangled", ""]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(attempts, st.data())
def test_what_is_charged_is_what_the_journals_say_whenever_they_are_read(history, data):
    """Read in pieces, at any bytes; with torn ends; overlapping attempts; and once more, which changes nothing."""
    with tempfile.TemporaryDirectory() as directory:
        files = RunLayout(Path(directory))
        steps = windows = 0
        known = []
        for generation, (executed, validations, end) in enumerate(history, start=1):
            claim = Claim(generation, "t" * 12, "17", generation - 1, "n1", 1, 1.0)
            lines = [Entry("start", 1.0, {"resumed_from": None})]
            lines += [Entry("step", 2.0, {"step": step, "seconds": 0.5}) for step in range(1, executed + 1)]
            lines += [Entry("validation", 3.0, {"step": 0, "windows": 2, "loss": 1.0})] * validations
            steps, windows = steps + executed, windows + 2 * validations
            text = "".join(line.to_line() for line in lines)
            if end == "torn":
                text += '{"kind":"step","ti'
            elif end == "mangled":  # a torn line that a later write ended, and one that a disk ate
                text += '{"kind":"step","ti\n\x00\x00\x00\n' + Entry("step", 4.0, {"step": executed + 1}).to_line()
                steps += 1
            elif end:
                text += Entry(end, 4.0, {"step": executed}).to_line()
            content = (claim.to_line() + text).encode()
            cut = data.draw(st.integers(len(claim.to_line()), len(content)))
            files.journal(generation).write_bytes(content[:cut])
            known, _ = read_attempts("r1", known, files, (4.0, 5.0))
            known = [replace(attempt, id=attempt.id or index) for index, attempt in enumerate(known, start=1)]
            files.journal(generation).write_bytes(content)
        for _ in range(2):
            known, _ = read_attempts("r1", known, files, (5.0, 6.0))
            spent = charges_of(a_priced_run(), known)
            by_kind = {kind: sum(charge.units for charge in spent if charge.kind == kind) for kind in KINDS}
            assert by_kind["useful"] + by_kind["replayed"] == steps
            assert by_kind["validation"] == windows
            assert sum(attempt.train_seconds for attempt in known) <= 0.5 * steps
