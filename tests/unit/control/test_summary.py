"""The summary is JSON whatever a training function logged."""

import json

import pytest
from control_builders import a_run, an_attempt

from lvjobs.control.budget.accounts import Terms, keep_books
from lvjobs.control.reconcile.journal_fold import fold
from lvjobs.control.summary import run_row
from lvjobs.records.journal import Entry
from lvjobs.study.params import TRAIN_TASK, TrainingConfig

BOOKS = keep_books(Terms(10**6), [a_run()], [], {})


def test_a_loss_that_blew_up_is_no_number():
    row = run_row(
        a_run(), [an_attempt(loss=float("inf"), validation_loss=float("nan"), validation_step=1)], BOOKS, "17"
    )
    assert row.loss is None
    assert row.validation_loss is None
    json.dumps(vars(row), allow_nan=False)


def test_the_last_known_loss_is_shown_while_a_new_attempt_has_none():
    row = run_row(a_run(), [an_attempt(1, loss=0.5, untrained_loss=0.9), an_attempt(2)], BOOKS, "17")
    assert (row.loss, row.untrained_loss, row.attempts) == (0.5, 0.9, 2)


@pytest.mark.parametrize("head", ["full", "numeric"])
def test_a_numeric_heads_losses_have_names_of_their_own(head):
    training = TrainingConfig(data="/d.h5", head=head)
    lines = [("validation", 0, 2.5), ("step", 1, 1.5), ("validation", 1, 1.25), ("step", 2, 1.0)]
    entries = [Entry(kind, 3.0, {"step": step, training.loss_name: loss}) for kind, step, loss in lines]
    config = {"task": TRAIN_TASK, "steps": 1000, "params": training.model_dump(mode="json")}
    row = run_row(a_run(config=config), [fold(an_attempt(), entries, 1, 4.0)], BOOKS, "17")
    names = ("untrained_loss", "validation_loss", "loss")
    full, numeric = [getattr(row, name) for name in names], [getattr(row, f"{name}_numeric") for name in names]
    assert (numeric if head == "numeric" else full) == [2.5, 1.25, 1.0]
    assert (full if head == "numeric" else numeric) == [None, None, None]
