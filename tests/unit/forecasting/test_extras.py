"""Extra baselines: their names, what they need, and forecasts that depend on nothing but a series' own history."""

import json
import socket
from importlib import metadata

import numpy as np
import pytest
import safetensors.numpy
from extra_helpers import make_bolt, make_chronos_2
from fake_hub import make_model

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.baselines import BASELINES, extras, univariate
from lvjobs.forecasting.baselines.extras import CannotForecast, canonical, check, forecast_extra, made_by
from lvjobs.forecasting.baselines.statistical import period
from lvjobs.forecasting.chronos_models import find_chronos
from lvjobs.forecasting.extra_files import ExtraForecasts, read_extra, read_extras, write_extras
from lvjobs.forecasting.hub import find_model

METHODS = ["auto-arima", "auto-ets", "auto-theta"]


@pytest.fixture(scope="module")
def histories():
    """Three systems of two variables, in cycles of 9 steps, with noise."""
    steps = np.arange(36)
    clean = 2 + np.sin(2 * np.pi * (steps[None, :, None] / 9 + np.array([0, 0.1, 0.3])[:, None, None]))
    return clean * [1.0, 3.0] + 0.01 * np.random.default_rng(0).standard_normal((3, 36, 2))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"bolt": make_bolt(root / "bolt"), "two": make_chronos_2(root / "two")}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_names_have_one_order_and_one_form(tmp_path):
    (tmp_path / "bolt").mkdir()
    (tmp_path / "link").symlink_to("bolt")
    found = canonical(["chronos:link", "auto-theta", "chronos:bolt", "auto-ets", "auto-theta", "chronos:a/b"], tmp_path)
    assert found == ["auto-ets", "auto-theta", f"chronos:{tmp_path.resolve()}/bolt", "chronos:a/b"]
    assert canonical(found, tmp_path) == found
    assert canonical("auto-theta", tmp_path) == ["auto-theta"], "one text is one name, and never its letters"
    assert canonical([], tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ode", "in every table already"),
        ("auto-sarima", "no extra baseline 'auto-sarima'.*auto-arima, auto-ets, auto-theta and chronos:MODEL"),
        ("auto-theta:x", "no extra baseline"),
        ("chronos", "no extra baseline"),
        ("chronos:", "names no model"),
        ("chronos:amazon/chronos-t5-small", "the first Chronos models forecast by random samples"),
        ("", "no extra baseline"),
    ],
)
def test_a_name_of_nothing_is_refused(tmp_path, name, words):
    with pytest.raises(UsageError, match=words):
        canonical([name], tmp_path)


def test_extra_baselines_have_names_of_their_own():
    assert not extras.EXTRAS.keys() & BASELINES.keys()
    assert univariate.CLASSES.keys() == {name for name in extras.EXTRAS if name != extras.CHRONOS}


def test_a_package_that_is_missing_or_too_old_is_named_with_its_remedy(monkeypatch, models):
    chronos = f"chronos:{models['bolt']}"
    for name, package, extra in (
        ("auto-ets", "statsforecast", "statsforecast"),
        (chronos, "chronos-forecasting", "chronos"),
    ):
        check(name)
        with monkeypatch.context() as changed:
            changed.setattr(extras, "version", lambda _: "1.9.4")
            with pytest.raises(UsageError, match=f"takes the package {package}, at least version 2, and 1.9.4 is"):
                check(name)
        with monkeypatch.context() as changed:
            changed.setattr(extras, "find_spec", lambda _: None)
            with pytest.raises(UsageError, match=rf"{package}, which is not installed; type: .*'lvjobs\[{extra}\]'"):
                check(name)


def test_a_model_that_no_job_could_forecast_with_is_refused(hub, tmp_path, models):
    for model, words in {
        "amazon/chronos-bolt-small": "jobs do not download.*lvjobs model pull amazon/chronos-bolt-small",
        str(make_model(tmp_path / "text")): "neither Chronos-Bolt nor Chronos-2.*names no pipeline",
        str(tmp_path / "nowhere"): "nor an existing directory",
        "tiny": "neither Chronos-Bolt nor Chronos-2",
    }.items():
        with pytest.raises(UsageError, match=words):
            check(f"chronos:{model}")
    first = make_bolt(tmp_path / "first")
    config = json.loads((first / "config.json").read_text()) | {"chronos_pipeline_class": "ChronosPipeline"}
    (first / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="names the pipeline ChronosPipeline"):
        check(f"chronos:{first}")
    with pytest.raises(UsageError, match=r"forecasts numbers.*--baseline chronos:"):
        find_model(str(models["bolt"]))
    (first / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"lacks model\.safetensors"):
        check(f"chronos:{first}")


def test_the_evidence_names_package_version_and_weights(models, tmp_path):
    assert made_by("auto-ets") == {"package": "statsforecast", "version": metadata.version("statsforecast")}
    found = [made_by(f"chronos:{path}") for path in (models["bolt"], make_bolt(tmp_path / "other", seed=1))]
    assert {each["package"] for each in found} == {"chronos-forecasting"}
    assert len({each["weights_sha256"] for each in found}) == 2
    assert find_chronos(str(models["two"])).parameters


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*METHODS, "bolt", "two"])
def test_a_forecast_depends_on_its_own_history_alone(histories, models, monkeypatch, capfd, name):
    """Not on the batch or the order, without a network, without a word in the log."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("used the network"))
    name = f"chronos:{models[name]}" if name in models else name
    whole = forecast_extra(name, histories, 5, [7, 8, 9])
    assert whole.shape == (3, 5, 2)
    assert np.isfinite(whole).all()
    turned = forecast_extra(name, histories[::-1], 5, [9, 8, 7])
    assert np.array_equal(turned[::-1], whole)
    assert np.array_equal(forecast_extra(name, histories[1:2], 5, [8]), whole[1:2])
    out, err = capfd.readouterr()
    assert (out, "warning" in err.lower()) == ("", False)


@pytest.mark.heavy
@pytest.mark.parametrize("name", METHODS)
def test_a_cycle_is_forecast_by_its_period(histories, name):
    assert period(histories)[0] == 9
    ahead = 2 + np.sin(2 * np.pi * np.arange(36, 41) / 9)
    made = forecast_extra(name, histories, 5, [0, 1, 2])[0]
    assert np.abs(made - ahead[:, None] * [1.0, 3.0]).max() < 0.1


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "joint"), [("bolt", False), ("two", True)])
def test_chronos_2_sees_both_variables_of_a_series_and_bolt_one(histories, models, name, joint):
    other = histories.copy()
    other[:, :, 1] *= np.linspace(1, 3, histories.shape[1])
    one, two = (forecast_extra(f"chronos:{models[name]}", each, 5, [0, 1, 2])[:, :, 0] for each in (histories, other))
    assert np.array_equal(one, two) is not joint


@pytest.mark.heavy
@pytest.mark.parametrize("make", [make_bolt, make_chronos_2])
def test_weights_that_are_missing_are_not_drawn_at_random(histories, tmp_path, make):
    path = make(tmp_path / "model") / "model.safetensors"
    weights = safetensors.numpy.load_file(path)
    lost = next(key for key in sorted(weights) if "output_patch_embedding" in key)
    safetensors.numpy.save_file({key: value for key, value in weights.items() if key != lost}, path, {"format": "pt"})
    with pytest.raises(LvjobsError, match=f"lacks weights.*{lost}") as caught:
        forecast_extra(f"chronos:{tmp_path}/model", histories, 5, [0, 1, 2])
    assert not isinstance(caught.value, CannotForecast)


def test_what_cannot_be_fitted_names_series_variable_and_reason(histories, monkeypatch):
    class Broken:
        def __init__(self, season_length):
            pass

        def forecast(self, y, h):
            raise Exception("no model able to be fitted\nat all")  # noqa: TRY002 - as statsforecast does

    monkeypatch.setattr("statsforecast.models.AutoTheta", Broken)
    with pytest.raises(CannotForecast) as caught:
        forecast_extra("auto-theta", histories, 5, [7, 8, 9])
    assert str(caught.value) == "series 7: auto-theta cannot be fitted to variable 0 (no model able to be fitted)"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_a_forecast_that_diverges_is_none(histories, monkeypatch, value):
    monkeypatch.setattr(extras, "forecast_each", lambda _, history, horizon: np.full((horizon, 2), value))
    with pytest.raises(CannotForecast, match="series 7: its forecast diverges"):
        forecast_extra("auto-theta", histories, 5, [7, 8, 9])


def test_forecasts_come_back_from_their_file_bit_for_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 5, 2))
    made = {
        "chronos:/m": ExtraForecasts(values, {"package": "p", "version": "1"}),
        "chronos:/m/a": ExtraForecasts(values + 1),
        "auto-ets": ExtraForecasts(values[:1], {}, "too short"),
    }
    write_extras(tmp_path / "b.h5", made)
    found = read_extras(tmp_path / "b.h5", [*made, "auto-theta"])
    assert found.keys() == made.keys()
    for name, each in made.items():
        assert np.array_equal(found[name].values, each.values)
        assert (found[name].made_by, found[name].problem) == (each.made_by, each.problem)
    assert np.array_equal(read_extra(tmp_path / "b.h5", "chronos:/m", made["chronos:/m"].sha256), values)


def test_forecasts_that_were_not_scored_are_refused(tmp_path):
    made = ExtraForecasts(np.ones((3, 5, 2)))
    path = tmp_path / "b.h5"
    with pytest.raises(LvjobsError, match="cannot be read"):
        read_extra(path, "auto-ets", made.sha256)
    write_extras(path, {"auto-ets": made})
    for name, sha256 in (("auto-theta", made.sha256), ("auto-ets", ExtraForecasts(np.zeros((3, 5, 2))).sha256)):
        with pytest.raises(LvjobsError, match=f"does not hold the forecasts of {name}"):
            read_extra(path, name, sha256)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(LvjobsError, match="cannot be read"):
        read_extra(path, "auto-ets", made.sha256)
