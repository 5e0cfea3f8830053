"""Splits: no system on both sides, no step seen that is scored, no forecast parted from its truth."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.errors import UsageError
from lvjobs.forecasting.splits import Split, make_split, training_split
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def trajectories():
    """Each value says where it stands: 1000 * system + step, and its negative as the second variable."""
    places = 1000.0 * np.arange(30)[:, None] + np.arange(100)
    return np.stack([places, -places], axis=2)


def test_the_last_fifth_of_the_file_is_scored():
    split = make_split(1000)
    assert split.train == tuple(range(800))
    assert split.test == tuple(range(800, 1000))
    assert (split.history, split.horizon) == (80, 20)


@given(systems=st.integers(2, 300), name=st.sampled_from(["last200", "random"]), seed=st.integers(0, 10**9))
def test_every_system_is_on_one_side(systems, name, seed):
    split = make_split(systems, name, seed=seed)
    assert sorted(split.train + split.test) == list(range(systems))
    assert len(split.test) == max(1, systems // 5)
    assert split == make_split(systems, name, seed=seed)
    assert split.to_dict() == json.loads(json.dumps(split.to_dict()))


@given(systems=st.integers(5, 300), folds=st.integers(2, 5), seed=st.integers(0, 10**9))
def test_each_system_is_scored_by_one_fold_that_did_not_train_on_it(systems, folds, seed):
    parts = [make_split(systems, "k-fold", seed=seed, folds=folds, fold=fold) for fold in range(folds)]
    assert sorted(system for part in parts for system in part.test) == list(range(systems))
    assert {len(part.test) for part in parts} <= {systems // folds, systems // folds + 1}
    for part in parts:
        assert sorted(part.train + part.test) == list(range(systems))


@pytest.mark.parametrize(("folds", "fold"), [(5, 5), (5, -1), (31, 0)])
def test_a_fold_that_is_not_there_is_refused(folds, fold):
    with pytest.raises(UsageError, match="folds"):
        make_split(30, "k-fold", folds=folds, fold=fold)


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_trains_validates_and_scores_on_systems_of_its_own(fold):
    split = training_split(1000, TrainingConfig(data="/d.h5", split="k-fold", fold=fold))
    assert (len(split.train), len(split.validation), len(split.test)) == (720, 80, 200)
    assert sorted(split.train + split.validation + split.test) == list(range(1000))
    assert max(split.train) > 900


@pytest.mark.parametrize(("systems", "folds"), [(1000, 5), (20, 3), (47, 10)])
def test_each_fold_is_validated_on_systems_of_its_own(systems, folds):
    """Else a choice over all folds would be one by a few systems, all of which one other fold scores."""
    settings = [TrainingConfig(data="/d.h5", split="k-fold", folds=folds, fold=fold) for fold in range(folds)]
    validating = [system for each in settings for system in training_split(systems, each).validation]
    assert len(validating) == len(set(validating))


def test_a_seed_decides_for_ever():
    # Written down: whatever python, numpy or machine reads this must draw the same.
    assert make_split(10, "random", seed=0).train == (7, 4, 9, 3, 8, 2, 6, 0)
    assert make_split(10, "random", seed=0).test == (5, 1)
    assert make_split(10, "random", seed=1).test != (5, 1)


def test_a_random_split_scores_systems_from_everywhere():
    test = np.array(make_split(1000, "random", seed=3).test)
    assert np.histogram(test, bins=5, range=(0, 1000))[0].min() > 20
    assert list(test) != sorted(test)


def test_a_system_on_both_sides_is_refused():
    with pytest.raises(UsageError, match="system 3 first"):
        Split("last200", 0, (0, 1, 2, 3), (3, 4))


def training(systems, **params):
    return training_split(systems, TrainingConfig(data="x", **params))


@pytest.mark.parametrize(
    ("systems", "params", "train", "validation"),
    [
        (1000, {}, range(720), range(720, 800)),
        (1000, {"train_systems": 100}, range(100), range(720, 800)),
        (1000, {"validation_systems": 32}, range(768), range(768, 800)),
        (1000, {"validation_systems": 0}, range(800), ()),
        (1000, {"validation_systems": 0, "train_systems": 800}, range(800), ()),
        (1000, {"validation_systems": 799}, range(1), range(1, 800)),
        (10, {}, range(7), [7]),
        (3, {}, [0], [1]),
    ],
)
def test_the_last_that_may_train_validate(systems, params, train, validation):
    split = training(systems, **params)
    assert (split.train, split.validation) == (tuple(train), tuple(validation))
    assert split.test == make_split(systems).test
    assert split.validating == (split.validation or split.test)
    assert split.to_dict() == json.loads(json.dumps(split.to_dict()))


@given(
    systems=st.integers(3, 300),
    train=st.none() | st.integers(1, 300),
    held=st.none() | st.integers(0, 300),
)
def test_no_system_is_in_two_of_the_three(systems, train, held):
    try:
        split = training(systems, train_systems=train, validation_systems=held)
    except UsageError:
        return
    parts = (split.train, split.validation, split.test)
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert split.train
    assert split.train == tuple(range(len(split.train)))


def test_training_may_not_reach_into_validation():
    with pytest.raises(UsageError, match=r"train_systems = 8, but only 7 of 10.*1 validate.*2 are scored"):
        training(10, train_systems=8)
    with pytest.raises(UsageError, match=r"train_systems = 9, but only 8 of 10"):
        training(10, train_systems=9, validation_systems=0)
    with pytest.raises(UsageError, match=r"8 of 10 systems may train, and 8 of them are to validate"):
        training(10, validation_systems=8)
    with pytest.raises(UsageError, match=r"validation_systems lower"):
        training(2)


def test_a_system_that_validates_is_neither_trained_on_nor_scored():
    split = training(10)
    with pytest.raises(UsageError, match="would train and validate, system 3 first"):
        replace(split, validation=(3, 7))
    with pytest.raises(UsageError, match="validated on would be scored, system 8 first"):
        replace(split, validation=(7, 8))


def test_what_a_run_was_chosen_by_is_not_scored():
    seen = training(1000, train_systems=1).seen
    assert len(seen) == 81
    with pytest.raises(UsageError, match="validated on would be scored"):
        make_split(1000, "random", seed=0).reject_seen(seen[1:])
    make_split(1000).reject_seen(seen)


def test_what_a_run_trained_on_is_not_scored():
    split = make_split(1000, "random", seed=0)
    split.reject_seen(split.train)
    with pytest.raises(UsageError, match="score with the split that the run was trained with"):
        split.reject_seen(range(800))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "first"}, "no split 'first'"),
        ({"seed": -1}, "0 or more"),
        ({"seed": 1.0}, "whole numbers"),
        ({"train": (0, True)}, "whole numbers"),
        ({"history": 0}, "at least one step"),
        ({"horizon": 0}, "at least one step"),
        ({"train": ()}, "at least one system"),
        ({"test": ()}, "at least one system"),
        ({"train": (-1, 0)}, "system -1"),
        ({"train": (1, 1)}, "twice"),
        ({"test": (9, 9)}, "twice"),
        ({"train": (0,), "validation": (1, 1)}, "twice"),
        ({"train": (0,), "validation": (-1,)}, "system -1"),
    ],
)
def test_nonsense_is_refused(changed, words):
    with pytest.raises(UsageError, match=words):
        replace(make_split(10), **changed)


def test_one_system_cannot_be_split():
    with pytest.raises(UsageError, match="cannot be split"):
        make_split(1)


def test_the_truth_begins_right_after_the_history(trajectories):
    split = make_split(30, "random", seed=1)
    history, truth = split.histories(trajectories), split.truths(trajectories)
    assert (history.shape, truth.shape) == ((6, 80, 2), (6, 20, 2))
    first = 1000.0 * np.array(split.test)
    assert history[:, -1, 0].tolist() == (first + 79).tolist()
    assert truth[:, :, 0].tolist() == (first[:, None] + np.arange(80, 100)).tolist()


def test_training_systems_are_never_the_scored_ones(trajectories):
    split = make_split(30, "random", seed=1)
    assert (split.training(trajectories)[:, 0, 0] / 1000).tolist() == list(split.train)


def test_another_file_is_refused(trajectories):
    split = make_split(30)
    for data, words in (
        (trajectories[:20], "the file holds 20"),
        (trajectories[:, :99], "99 steps"),
        (trajectories[..., 0], "shape"),
    ):
        for part in (split.histories, split.truths, split.training):
            with pytest.raises(UsageError, match=words):
                part(data)


def test_splits_load_no_torch():
    code = "import sys, lvjobs.forecasting.splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
