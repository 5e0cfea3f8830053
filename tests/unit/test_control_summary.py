"""The summary is JSON whatever a training function logged."""

import json

from control_builders import a_run, an_attempt

from lvjobs.control.accounts import Terms, keep_books
from lvjobs.control.summary import run_row

BOOKS = keep_books(Terms(10**6), [a_run()], [], {})


def test_a_loss_that_blew_up_is_no_number():
    row = run_row(
        a_run(), [an_attempt(loss=float("inf"), validation_loss=float("nan"), validation_step=1)], BOOKS, "17"
    )
    assert row["loss"] is None
    assert row["validation_loss"] is None
    json.dumps(row, allow_nan=False)


def test_the_last_known_loss_is_shown_while_a_new_attempt_has_none():
    row = run_row(a_run(), [an_attempt(1, loss=0.5, untrained_loss=0.9), an_attempt(2)], BOOKS, "17")
    assert (row["loss"], row["untrained_loss"], row["attempts"]) == (0.5, 0.9, 2)
