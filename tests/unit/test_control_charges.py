"""Every executed step is charged once: as useful or as replayed."""

from control_builders import a_run, an_attempt
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.control.charges import charges_of, replayed_steps


def attempt(number, resumed, step, generation=None, **changes):
    """An attempt that went from `resumed` to `step`, from a checkpoint of the generation before it (or `generation`)."""
    begun = (number - 1 if generation is None else generation) if resumed else 0
    steps = {"resumed_from": resumed, "resumed_generation": begun, "step": step, "executed": step - resumed}
    return an_attempt(number, **steps, **changes)


def spent(*attempts):
    by_kind = {}
    for charge in charges_of(a_run(), attempts):
        by_kind[charge.kind] = by_kind.get(charge.kind, 0) + charge.steps
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


def test_an_execution_that_claimed_nothing_costs_nothing():
    assert spent(an_attempt(1, generation=None), attempt(2, 0, 10)) == {"useful": 10}


def test_validation_is_charged_at_its_own_rate():
    charges = charges_of(a_run(), [attempt(1, 0, 10, validation_windows=7)])
    assert {charge.kind: charge.flops for charge in charges} == {"useful": 1000, "validation": 70}


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
    assert replayed_steps(a_run(), attempts) == parts.get("replayed", 0)


def test_a_finished_run_has_exactly_its_steps_useful():
    attempts = [attempt(1, 0, 420), attempt(2, 250, 600), attempt(3, 500, 1000)]
    assert spent(*attempts)["useful"] == 1000
