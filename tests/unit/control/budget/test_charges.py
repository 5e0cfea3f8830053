"""Every executed step is charged once: as useful or as replayed."""

from control_builders import a_run, an_attempt
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.control.budget.accounts import Terms, open_account
from lvjobs.control.budget.charges import charges_of, unseen_steps
from lvjobs.study.words import Cause, LeaveCause


def attempt(number, resumed, step, generation=None, **changes):
    """An attempt that went from `resumed` to `step`, from a checkpoint of the generation before it (or `generation`)."""
    begun = (number - 1 if generation is None else generation) if resumed else 0
    steps = {"resumed_from": resumed, "resumed_generation": begun, "step": step, "executed": step - resumed}
    return an_attempt(number, **steps, **changes)


def spent(*attempts):
    by_kind = {}
    for charge in charges_of(a_run(), attempts):
        by_kind[charge.kind] = by_kind.get(charge.kind, 0) + charge.units
    return by_kind


def test_a_run_that_was_left_alone():
    assert spent(attempt(1, 0, 1000)) == {"useful": 1000}


def test_a_run_that_left_at_a_checkpoint_replays_nothing():
    assert spent(attempt(1, 0, 300), attempt(2, 300, 1000)) == {"useful": 1000}


def test_steps_behind_the_last_checkpoint_are_replayed():
    assert spent(attempt(1, 0, 420), attempt(2, 250, 1000)) == {"useful": 1000, "replayed": 170}


def test_an_orphans_steps_are_replayed():
    assert spent(attempt(1, 0, 900), attempt(2, 250, 1000)) == {"useful": 1000, "replayed": 650}


def test_a_lost_checkpoint_makes_earlier_attempts_useless_too():
    assert spent(attempt(1, 0, 500), attempt(2, 500, 700), attempt(3, 250, 1000, 1)) == {
        "useful": 1000,
        "replayed": 450,
    }


def test_a_generation_that_has_not_started_takes_nothing_over_also_when_it_ends_like_that():
    for ended in ({}, {"cause": Cause.KILLED}):
        claimed = an_attempt(2, journal_offset=0, **ended)
        assert spent(attempt(1, 0, 420), claimed) == {"useful": 420}
        assert spent(attempt(1, 0, 420), claimed, attempt(3, 250, 300, 1)) == {"useful": 300, "replayed": 170}


def test_a_generation_that_started_from_nothing_repeats_all_that_there_was():
    assert spent(attempt(1, 0, 420), an_attempt(2)) == {"replayed": 420}


def test_an_execution_that_claimed_nothing_costs_nothing():
    assert spent(an_attempt(1, generation=None), attempt(2, 0, 10)) == {"useful": 10}


def test_validation_is_charged_at_its_own_rate():
    account = open_account(a_run(), charges_of(a_run(), [attempt(1, 0, 10, validation_windows=7, generated=2)]), None)
    assert {kind: account.flops(Terms(10**6), kind) for kind in account.units} == {
        "useful": 1000,
        "replayed": 0,
        "validation": 70,
        "generation": 2,
    }


@given(st.lists(st.tuples(st.integers(0, 7), st.floats(0, 1), st.integers(0, 400)), min_size=1, max_size=8))
def test_useful_and_replayed_are_all_that_was_executed(history):
    attempts = []
    for number, (parent, share, executed) in enumerate(history, start=1):
        begun = attempts[parent % len(attempts)] if attempts else None
        resumed = int(begun.resumed_from + share * begun.executed) if begun else 0
        attempts.append(attempt(number, resumed, resumed + executed, begun.generation if begun else 0))
    parts = spent(*attempts)
    executed = sum(item.executed for item in attempts)
    assert parts.get("useful", 0) + parts.get("replayed", 0) == executed


def test_a_finished_run_has_exactly_its_steps_useful():
    attempts = [attempt(1, 0, 420), attempt(2, 250, 600), attempt(3, 500, 1000)]
    assert spent(*attempts)["useful"] == 1000


def a_dead_one(**changes):
    return attempt(1, 0, 420, cause=Cause.NODE_FAIL, **changes)


def test_what_a_dead_node_never_flushed_is_charged_up_to_its_next_checkpoint_and_marked():
    run = a_run(config={"steps": 1000, "checkpoint_every": 250})
    useful, replayed, _ = charges_of(run, [a_dead_one(), attempt(2, 250, 300)])
    assert (useful.units, useful.estimated) == (250, 0)
    assert (replayed.units, replayed.estimated) == (170 + 80, 80)


def test_the_bound_is_the_runs_end():
    assert unseen_steps(a_run(config={"steps": 430, "checkpoint_every": 250}), a_dead_one()) == 10


def test_nothing_is_estimated_of_an_attempt_that_had_its_last_word_or_whose_machine_lives():
    run = a_run(config={"steps": 1000, "checkpoint_every": 250})
    assert unseen_steps(run, a_dead_one()) == 80
    assert unseen_steps(run, a_dead_one(leave_cause=LeaveCause.SUPERSEDED)) == 0
    assert unseen_steps(run, a_dead_one(error="ValueError: x")) == 0
    assert unseen_steps(run, a_dead_one(finished=True)) == 0
    assert unseen_steps(run, attempt(1, 0, 420, cause=Cause.KILLED)) == 0
    assert unseen_steps(run, attempt(1, 0, 420)) == 0
