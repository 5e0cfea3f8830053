"""Baselines: what each must forecast where the answer is known, and that none sees what it is to forecast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicSpline

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.baselines import BASELINES, forecast, forecast_split, growth, ode
from lvjobs.forecasting.baselines.analogue import analogue_training
from lvjobs.forecasting.baselines.integration import gauss_legendre, runge_kutta
from lvjobs.forecasting.baselines.statistical import period
from lvjobs.forecasting.baselines.tuning import tuned
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.splits import make_split

pytestmark = pytest.mark.heavy

NAMES = list(BASELINES)
ALONE = [name for name, baseline in BASELINES.items() if "training" not in baseline.takes]


@pytest.fixture(scope="module")
def trajectories():
    return solve(draw_systems(20, 0), sample_times()).astype(np.float32)


def cycles_of(*sizes_and_phases):
    """Positive, of period 12 in both variables: (systems, 100, 2)."""
    angles = 2 * np.pi * (np.arange(100)[:, None] + [0, 3]) / 12
    return np.stack([size * np.exp(np.sin(angles + phase)) for size, phase in sizes_and_phases])


@pytest.fixture(scope="module")
def cycles():
    return cycles_of((1, 0), (10, 1), (0.1, 2))


@pytest.fixture(scope="module")
def other_cycles():
    return cycles_of((2, 0.5), (5, 1.7), (0.3, 2.6), (1, 4))


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_determinism(name, trajectories):
    split = make_split(20)
    once = forecast_split(name, split, trajectories, sample_times())
    assert (once.shape, once.dtype) == ((4, 20, 2), np.float64)
    assert np.isfinite(once).all()
    assert np.array_equal(once, forecast_split(name, split, trajectories, sample_times()))


@pytest.mark.parametrize("name", NAMES)
def test_no_baseline_sees_what_it_is_to_forecast(name, trajectories):
    split = make_split(20, "random", seed=0)
    changed = trajectories.copy()
    changed[list(split.test), 80:] = 1e6
    seen, unseen = (forecast_split(name, split, data, sample_times()) for data in (trajectories, changed))
    assert np.array_equal(seen, unseen)


@pytest.mark.parametrize("name", NAMES)
def test_a_system_is_forecast_alike_in_any_company(name, trajectories):
    split = make_split(20)
    history, training = split.histories(trajectories), split.training(trajectories)
    whole = forecast(name, history, 20, training=training)
    assert forecast(name, history[2:3], 20, training=training)[0] == pytest.approx(whole[2], rel=1e-6)
    assert forecast(name, history[::-1], 20, training=training)[::-1] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("name", ALONE)
def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(name, trajectories):
    if name == "analogue":
        pytest.skip("a neighbour must be followed by the whole horizon, so there are others for another one")
    history = trajectories[:, :80]
    assert forecast(name, history, 7) == pytest.approx(forecast(name, history, 20)[:, :7], rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_units_do_not_matter(name, trajectories):
    split = make_split(20)
    history, training = split.histories(trajectories), split.training(trajectories)
    units = np.array([1000.0, 0.01])
    plain = forecast(name, history, 20, training=training)
    scaled = forecast(name, history * units, 20, training=training * units)
    assert scaled / units == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("ode", "analogue-training")])
def test_a_constant_series_stays_where_it_is(name):
    history = np.full((2, 80, 3), 4.25)
    assert forecast(name, history, 5, training=np.full((4, 85, 3), 1.5)) == pytest.approx(
        np.full((2, 5, 3), 4.25), rel=1e-6
    )


def test_persistence_and_mean_are_what_they_say(trajectories):
    history = trajectories[:, :80].astype(np.float64)
    assert np.array_equal(forecast("persistence", history, 20), np.stack([history[:, 79]] * 20, axis=1))
    assert forecast("mean", history, 20)[:, 19] == pytest.approx(history.mean(axis=1))


def test_the_seasonal_forecast_goes_on_with_a_cycle(cycles):
    history = cycles[:, :80]
    assert (period(history) == 12).all()
    assert forecast("seasonal-naive", history, 20) == pytest.approx(cycles[:, 80:])
    centred = np.log(history)  # not positive: compared in levels
    assert (period(centred) == 12).all()


def test_a_horizon_beyond_the_period_repeats_it(cycles):
    found = forecast("seasonal-naive", cycles[:, :80], 40)
    assert found[:, 24:36] == pytest.approx(found[:, :12])


@pytest.mark.parametrize("name", ["analogue", "var-12-log", "var-tuned-log", "parroting"])
def test_methods_that_learn_dynamics_continue_a_cycle(name, cycles, other_cycles):
    assert forecast(name, cycles[:, :80], 20, training=other_cycles) == pytest.approx(cycles[:, 80:], rel=0.02)


def test_parroting_copies_to_the_end_of_its_history_and_then_again(cycles, other_cycles):
    """40 steps of a period of 12: what follows the nearest motif ends before the horizon does."""
    found = forecast("parroting", cycles[:, :40], 60, training=other_cycles)
    assert found == pytest.approx(cycles[:, 40:], rel=1e-6)


def test_parroting_compares_positive_series_in_logarithms():
    """100 is nearer to 1000 than to 1 in logarithms, and nearer to 1 in levels. Equal errors: the first setting."""
    values = [1e6] * 4 + [1e3] * 8 + [1e5] * 8 + [1.0] * 8 + [1e4] * 8 + [100.0] * 2
    history = np.array(values)[None, :, None]
    found = forecast("parroting", history, 4, training=np.full((3, 50, 1), 3.0))
    assert found.ravel() == pytest.approx([1e3] * 4)


def test_differential_equations_are_solved_and_integrals_taken():
    times = np.array([0.0, 0.5, 2.0])
    path = runge_kutta(lambda state: -state, np.array([1.0, 3.0]), times, 20)
    assert path == pytest.approx(np.exp(-times)[:, None] * [1, 3], rel=1e-6)
    clipped = runge_kutta(lambda state: -state, np.array([1.0, 3.0]), times, 20, (np.full(2, 0.9), np.full(2, 2.5)))
    assert clipped[-1] == pytest.approx([0.9, 0.9])
    places, half, weights = gauss_legendre(times)
    assert (places**5 * half * weights).sum(axis=1) == pytest.approx(np.diff(times**6 / 6))


COMPETITION = np.array([0.5, 0.4]), np.array([[0.5, 0.3], [0.2, 0.4]])
"""Lotka and Volterra's two competitors: growth rates are linear in both."""


def competitors(*starts, times=range(60)):
    rates, crowding = COMPETITION
    state, path, now = np.array(starts), [], 0.0
    for time in times:
        for _ in range(200):
            state = state * np.exp((time - now) / 200 * (rates - state @ crowding.T))
        now = time
        path.append(state)
    return np.stack(path, axis=1)


def test_a_competition_whose_law_is_not_built_in_is_recovered():
    series, others = competitors([0.05, 0.1], [0.9, 0.05], [0.3, 1.2]), competitors([0.1, 0.4], [1.1, 0.2])
    found = forecast("sparse-growth", series[:, :40], 20, training=others)
    assert found == pytest.approx(series[:, 40:], rel=1e-2)
    assert np.abs(found - series[:, 40:]).max() < 0.1 * np.abs(series[:, 39:40] - series[:, 40:]).max()


def test_terms_that_the_law_does_not_have_are_removed():
    times = np.arange(40.0)
    (series,) = np.log(competitors([0.05, 0.1], times=times))
    between = CubicSpline(times, series)(gauss_legendre(times)[0].ravel())
    (found,) = growth._fit(series[None], np.exp(between)[None], times, 1e-10, 3e-2)
    rates, crowding = COMPETITION
    assert found[:3] == pytest.approx(np.vstack([rates, -crowding.T]), abs=1e-3)
    assert not found[3:].any()


def test_growth_rates_are_per_time_of_the_file():
    times = np.arange(100) + 0.4 * np.sin(np.arange(100))
    series, others = (solve(draw_systems(5, seed), times * 2) for seed in (1, 2))
    found = forecast("sparse-growth", series[:, :80], 20, training=others, time=times * 2)
    blind = forecast("sparse-growth", series[:, :80], 20, training=others)
    truth = series[:, 80:]
    assert np.median(np.abs(found - truth)) < 0.2 * np.median(np.abs(blind - truth))


def test_no_time_that_a_file_may_have_gives_a_forecast_that_is_no_number(trajectories):
    """A spline through two steps that nearly coincide overshoots beyond every number."""
    times = np.arange(100.0)
    times[40] = times[41] - 1e-4
    found = forecast("sparse-growth", trajectories[:3, :80], 20, training=trajectories[3:], time=times)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["var-tuned", "var-tuned-log"])
def test_a_tuned_var_stays_within_the_range_of_its_history(name, trajectories):
    history = trajectories[:4, :80].astype(np.float64)
    found = forecast(name, history, 200, training=np.concatenate([trajectories[4:]] * 3, axis=1))
    assert (found >= history.min(axis=1, keepdims=True) - 1e-12).all()
    assert (found <= history.max(axis=1, keepdims=True) + 1e-12).all()


def test_settings_are_those_with_the_lowest_error_on_training_systems():
    """Of three constants, the one that lies next to what the training systems do."""

    def constant(known, value):
        return np.full((len(known), 5, 2), value)

    training = np.full((30, 25, 2), 2.2)
    settings = [(1.0,), (2.0,), (3.0,)]
    found = tuned("one", constant, settings, np.zeros((4, 20, 2)), 5, training, systems=7)
    assert (found == 2.0).all()
    later = training.copy()
    later[:, 24:] = 3.1  # one of five steps
    later[:, :20] = 9.0
    assert (tuned("one", constant, settings, np.zeros((4, 20, 2)), 5, later, systems=7) == 2.0).all()


def test_training_systems_are_taken_evenly():
    """The first nine of 30 are others than the rest: of three, one is among them."""

    def constant(known, value):
        return np.full((len(known), 5, 2), value)

    training = np.full((30, 25, 2), 2.0)
    training[:9] = 1.0
    assert (tuned("one", constant, [(1.0,), (2.0,)], np.zeros((4, 20, 2)), 5, training, systems=3) == 2.0).all()


def test_settings_without_finite_errors_are_not_chosen():
    def constant(known, value):
        return np.full((len(known), 5, 2), value)

    training = np.full((3, 25, 2), 2.0)
    assert (tuned("one", constant, [(np.nan,), (2.0,)], np.zeros((4, 20, 2)), 5, training, systems=3) == 2.0).all()
    with pytest.raises(LvjobsError, match="no finite forecast of series 0"):
        tuned("one", constant, [(np.nan,)], np.zeros((4, 20, 2)), 5, training, systems=3)


TRAINED = [name for name, baseline in BASELINES.items() if "training" in baseline.takes]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: None, "needs the training systems"),
        (lambda series: series[3:][:, :30], "at least"),
        (lambda series: np.concatenate([series[3:]] * 2, axis=2), "2 variables"),
        (lambda series: np.where(series[3:] > 1, np.nan, series[3:]), "training systems have NaN"),
        (lambda series: series, "series 0 is to be forecast, but stands among the training systems"),
    ],
)
def test_training_systems_that_will_not_do_are_refused(name, change, words, trajectories):
    series = trajectories.astype(np.float64)
    with pytest.raises(UsageError, match=words):
        forecast(name, series[:3, :80], 20, training=change(series))


@pytest.mark.parametrize("name", ["var-tuned-log", "sparse-growth"])
def test_training_systems_with_a_zero_are_passed_over(name, trajectories):
    training = trajectories[3:].copy()
    training[4, 7] = 0
    assert np.isfinite(forecast(name, trajectories[:3, :80], 20, training=training)).all()
    with pytest.raises(UsageError, match="no training system is positive"):
        forecast(name, trajectories[:3, :80], 20, training=-training)


def test_a_linear_law_is_recovered_by_var():
    rng = np.random.default_rng(0)
    law = np.array([[0.9, 0.3], [-0.3, 0.9]])
    path = [rng.normal(size=(4, 2))]
    for _ in range(99):
        path.append(path[-1] @ law.T)
    series = np.stack(path, axis=1) + np.array([5, -3])
    assert forecast("var-8", series[:, :80], 20) == pytest.approx(series[:, 80:], abs=0.01)


@pytest.mark.parametrize("name", ["var-8", "var-12-log"])
@given(history=arrays(float, (2, 20, 2), elements=st.floats(1e-100, 1e100)))
@settings(max_examples=30, deadline=None)
def test_a_blow_up_stays_a_number(name, history):
    found = forecast(name, history, 200)
    assert np.isfinite(found**2).all()


def test_a_neighbour_among_the_training_systems_gives_its_future():
    rng = np.random.default_rng(0)
    training = rng.random((6, 100, 2))
    # One that looks the same from step 40 of its history on, and is another before.
    history = np.concatenate([rng.random((1, 40, 2)), training[2:3, 40:80]], axis=1)
    history[:, :40] = training[2:3, :40][:, ::-1]
    found = forecast("analogue-training", history, 20, training=training)
    assert found[0] == pytest.approx(training[2, 80:], abs=1e-6)


def test_the_fitted_law_forecasts_what_comes(trajectories):
    found = forecast("ode", trajectories[:, :80], 20, time=sample_times())
    assert found == pytest.approx(trajectories[:, 80:].astype(np.float64), abs=2e-3)


def test_the_files_own_times_are_used():
    uneven = np.sort(np.random.default_rng(0).uniform(0, 200, 100))
    uneven[0] = 0
    series = solve(draw_systems(5, 1), uneven)
    found = forecast("ode", series[:, :80], 20, time=uneven)
    assert np.abs(found - series[:, 80:]).mean() < 0.01
    assert np.abs(forecast("ode", series[:, :80], 20) - series[:, 80:]).mean() > 0.1


@given(logs=arrays(float, (2, 12, 2), elements=st.floats(-200, 200)))
@settings(max_examples=15, deadline=None)
def test_the_law_fitted_to_anything_gives_numbers_or_says_so(logs):
    try:
        found = forecast("ode", np.exp(logs), 20)
    except LvjobsError:
        return
    assert np.isfinite(found).all()


def test_a_law_that_cannot_be_solved_names_its_series(trajectories, monkeypatch):
    def explode(unknowns, times):
        path = solved(unknowns, times)
        path[3, 10:] = np.inf
        return path

    solved = ode._solve
    fitted = ode._fit(np.log(trajectories[:5, :80]), np.arange(80.0))
    monkeypatch.setattr(ode, "_fit", lambda *_: fitted)
    monkeypatch.setattr(ode, "_solve", explode)
    with pytest.raises(LvjobsError, match="series 3 cannot be solved"):
        forecast("ode", trajectories[:5, :80], 20)


POSITIVE = np.exp(np.random.default_rng(0).normal(size=(3, 30, 2)))
OTHERS = np.exp(np.random.default_rng(1).normal(size=(3, 60, 2)))


@pytest.mark.parametrize(
    ("name", "history", "options", "words"),
    [
        ("arima", POSITIVE, {}, "persistence, mean"),
        ("mean", POSITIVE[0], {}, "shape"),
        ("mean", POSITIVE[:0], {}, "shape"),
        ("mean", np.where(POSITIVE > 2, np.nan, POSITIVE), {}, "NaN"),
        ("seasonal-naive", POSITIVE[:, :1], {}, "at least 2 steps"),
        ("var-8", POSITIVE[:, :8], {}, "at least 9 steps"),
        ("var-12-log", POSITIVE[:, :12], {}, "at least 13 steps"),
        ("var-12-log", np.concatenate([POSITIVE, -POSITIVE]), {}, "series 3 is not positive"),
        ("analogue", POSITIVE[:, :5], {}, "at least 6 steps"),
        ("sparse-growth", POSITIVE[:, :10], {"training": OTHERS}, "at least 11 steps"),
        ("sparse-growth", np.concatenate([POSITIVE] * 4, axis=2), {"training": OTHERS}, "165 terms"),
        ("var-tuned", POSITIVE[:, :4], {"training": OTHERS}, "order 4 needs a history of at least 5 steps"),
        ("parroting", POSITIVE[:, :5], {"training": OTHERS}, "at least 6 steps"),
        ("ode", POSITIVE[:, :, :1], {}, "1 variables"),
        ("ode", POSITIVE[:, :7], {}, "at least 8 steps"),
        ("ode", -POSITIVE, {}, "series 0 is not positive"),
        ("ode", POSITIVE, {"time": np.arange(34.0)}, "35 increasing times"),
        ("ode", POSITIVE, {"time": np.zeros(35)}, "35 increasing times"),
    ],
)
def test_what_will_not_do_is_refused_in_one_line(name, history, options, words):
    with pytest.raises(UsageError, match=words) as caught:
        forecast(name, history, 5, **options)
    assert "\n" not in str(caught.value)


def test_no_horizon_is_refused():
    with pytest.raises(UsageError, match="horizon = 0"):
        forecast("mean", POSITIVE, 0)


def test_every_baseline_says_in_a_line_what_it_does():
    for baseline in BASELINES.values():
        assert 0 < len(baseline.description) < 80
        assert "\n" not in baseline.description


def test_training_systems_may_be_fewer_than_the_neighbours_that_are_sought():
    training = np.random.default_rng(1).random((1, 30, 2))
    assert analogue_training(POSITIVE[:, :20], 10, training).shape == (3, 10, 2)
