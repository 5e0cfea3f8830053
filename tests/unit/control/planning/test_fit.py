"""Proposals that fit: rarer validation before fewer steps, alike for all runs, and never one FLOP or one run astray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.control.planning.fit import Relief, largest_multiple, propose, relieve
from lvjobs.study.run import RunConfig

STEP, VALIDATION = 100, 70


def a_config(steps=1000, validate_every=250, checkpoint_every=250, **params):
    return RunConfig(
        task="toy:train", steps=steps, validate_every=validate_every, checkpoint_every=checkpoint_every, params=params
    )


def price(configs):
    """Of all together."""
    return sum(map(price_of, configs))


def price_of(config):
    """Steps, and a validation before the first, at every so many, and at the end."""
    return STEP * config.steps + VALIDATION * (1 + -(-config.steps // config.validate_every))


def shape(proposal):
    return [(config.steps, config.validate_every) for config in proposal.configs]


def test_what_fits_is_left_as_it_is():
    asked = [a_config(), a_config(seed=1)]
    total = price(asked)
    proposal = propose(asked, price, total)
    assert list(proposal.configs) == asked
    assert not proposal.is_change
    assert (proposal.wanted, proposal.price, proposal.free) == (total, total, total)


@pytest.mark.parametrize(
    ("validations", "every"),
    [(5, 250), (4, 500), (3, 500), (2, 1000)],
    ids=["all", "one too many", "two too many", "as few as there can be"],
)
def test_validation_gives_way_first_and_no_more_than_it_must(validations, every):
    """1,000 steps validate five times; every 500 steps, three times; at the end alone, twice."""
    proposal = propose([a_config()], price, 1000 * STEP + validations * VALIDATION)
    assert shape(proposal) == [(1000, every)]
    assert proposal.price <= proposal.free


def test_all_steps_and_the_rarest_validation_come_before_fewer_steps():
    least = 1000 * STEP + 2 * VALIDATION
    assert shape(propose([a_config()], price, least)) == [(1000, 1000)]
    assert shape(propose([a_config()], price, least - 1))[0][0] == 750


def with_replay(configs):
    """The price, with one checkpoint interval of each run on top, as it is reserved."""
    return price(configs) + sum(STEP * min(config.checkpoint_every, config.steps) for config in configs)


@pytest.mark.parametrize(
    ("steps", "free_steps", "every", "fewer"),
    [
        (1000, 450, 0, 225),  # not even 250 steps and 250 of replay
        (260, 450, 190, 225),
        (20, 30, 10, 15),  # shorter than an interval: all of it may have to be repeated
        (20, 21, 1, 10),
        (20, 20, 0, 10),
        (20, 1, 0, 0),
    ],
)
def test_a_single_run_fits_with_a_shorter_interval_or_fewer_steps(steps, free_steps, every, fewer):
    config, free = a_config(steps=steps), free_steps * STEP + 2 * VALIDATION
    assert propose([config], with_replay, free) is None
    assert relieve(config, with_replay, free) == Relief(every, fewer)
    for changes in ({"checkpoint_every": every}, {"steps": fewer}):
        if all(changes.values()):
            changed = config.model_copy(update=changes)
            (proposed,) = propose([changed], with_replay, free).configs
            assert proposed.steps == changed.steps
            more = {key: value + 1 for key, value in changes.items()}
            assert with_replay([config.model_copy(update={"validate_every": steps, **more})]) > free


def test_a_doubling_stops_at_the_end_of_the_run():
    """1,250 steps, every 250: 500, then 1,000, then the end, which 2,000 would have been beyond."""
    proposal = propose([a_config(steps=1250)], price, 1250 * STEP + 2 * VALIDATION)
    assert shape(proposal) == [(1250, 1250)]


def test_the_steps_are_the_largest_multiple_that_fits_and_validate_as_often_as_then_fits():
    asked = [a_config(steps=10_000)]
    free = 5000 * STEP + 12 * VALIDATION
    assert shape(propose(asked, price, free)) == [(5000, 500)]  # 11 validations; every 250 steps they would be 21
    assert shape(propose(asked, price, 5000 * STEP + 2 * VALIDATION)) == [(5000, 5000)]
    assert shape(propose(asked, price, 5000 * STEP + 2 * VALIDATION - 1))[0][0] == 4750


def test_all_runs_are_cut_alike_and_a_shorter_one_stays_who_it_is():
    asked = [
        a_config(steps=2000, seed=0),
        a_config(steps=500, validate_every=900, seed=1),
        a_config(steps=1000, seed=2),
    ]
    free = price([a_config(750, 750), a_config(500, 500), a_config(750, 750)])
    proposal = propose(asked, price, free)
    assert [config.steps for config in proposal.configs] == [750, 500, 750]
    assert proposal.configs[1].fingerprint == asked[1].fingerprint
    assert [config.params for config in proposal.configs] == [config.params for config in asked]


def test_a_cut_is_at_a_checkpoint_of_every_run():
    asked = [a_config(steps=2000, checkpoint_every=200), a_config(steps=2000, checkpoint_every=300)]
    proposal = propose(asked, price, 2 * (1700 * STEP))
    assert [config.steps for config in proposal.configs] == [1200, 1200]


def test_not_even_one_interval():
    least = price([a_config(steps=250)])
    assert shape(propose([a_config()], price, least)) == [(250, 250)]
    assert propose([a_config()], price, least - 1) is None
    assert propose([a_config()], price, -1) is None
    assert propose([a_config(), a_config(seed=1)], price, 2 * least - 1) is None


def test_a_run_within_one_interval_cannot_be_cut():
    assert propose([a_config(steps=100)], price, 99 * STEP) is None


@given(
    configs=st.lists(
        st.builds(
            a_config,
            steps=st.integers(1, 60),
            validate_every=st.integers(1, 70),
            checkpoint_every=st.sampled_from([2, 3, 4, 6]),
        ),
        min_size=1,
        max_size=4,
    ),
    share=st.floats(0, 1.1),
)
def test_whatever_is_proposed_fits_and_nothing_larger_does(configs, share):
    free = int(share * price(configs))
    proposal = propose(configs, price, free)
    longest = max(config.steps for config in configs)
    every = next(n for n in range(1, 100) if all(n % config.checkpoint_every == 0 for config in configs))

    def least(steps):
        return sum(STEP * min(config.steps, steps) + 2 * VALIDATION for config in configs)

    if proposal is None:
        assert longest <= every or least(every) > free
        assert least(longest) > free
        return
    assert proposal.price == price(proposal.configs) <= free
    assert len(proposal.configs) == len(configs)
    steps = max(config.steps for config in proposal.configs)
    if steps < longest:
        assert least(longest) > free
        assert steps % every == 0
        assert steps + every >= longest or least(steps + every) > free


def test_groups_of_equal_runs_are_told_together():
    told = propose([a_config(), a_config(seed=1), a_config(steps=500, validate_every=900)], price, 10**9).as_dict()
    assert told["asked"]["runs"] == [
        {"count": 2, "steps": 1000, "validate_every": 250},
        {"count": 1, "steps": 500, "validate_every": 500},
    ]
    assert told["asked"] == told["proposed"]


@pytest.mark.parametrize(
    ("below", "most", "found"),
    [(1000, 10**9, 750), (1001, 10**9, 1000), (1000, 749, 500), (1000, 750, 750), (250, 9, 0)],
)
def test_the_largest_multiple(below, most, found):
    assert largest_multiple(250, below, lambda steps: steps <= most) == found
