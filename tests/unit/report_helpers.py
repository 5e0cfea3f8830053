"""A study's finished runs and evaluations, made by hand: forecasts are the truth and some noise, scores are real."""

import json

import h5py
import numpy as np
import pytest

from lvjobs.forecasting.data import load_dataset, make_dataset, sha256
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation, with_baselines
from lvjobs.forecasting.extra_files import ExtraForecasts, write_extras
from lvjobs.forecasting.metrics import score
from lvjobs.forecasting.results import Forecasts, baselines_of, examine, load_result, write_forecasts
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.ledger.records import RunRecord
from lvjobs.report.evaluated import evaluated
from lvjobs.report.extras import with_extras_shared
from lvjobs.report.material import Material, read_losses
from lvjobs.study.layout import StudyLayout
from lvjobs.study.params import TRAIN_TASK, EvaluationConfig, TrainingConfig
from lvjobs.study.run import RunConfig

HISTORY, HORIZON = 60, 5
SYSTEMS = [16, 19, 17]


def read_forecast(path):
    """Return what `SeriesForecast.write_hdf5` wrote, read as a user would."""
    with h5py.File(path) as file:
        arrays = {name: file[name][()] for name in ("time", "truth", "samples")}
        baselines = {name: values[()] for name, values in file["baselines"].items()}
        said = dict(file.attrs)
    evidence = json.loads(said["evidence"])
    return SeriesForecast(
        int(said["series"]), history=said["history"], baselines=baselines, evidence=evidence, **arrays
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=20, seed=1)
    return path


class Finished:
    """A study in which runs are trained and evaluated by being said so."""

    def __init__(self, root, data):
        self.layout, self.data, self.runs = StudyLayout(root), data, []

    def training(self, **changes):
        base = {"data": str(self.data), "data_sha256": sha256(self.data)}
        return TrainingConfig(**(base | {"history_steps": HISTORY, "horizon_steps": HORIZON} | changes))

    def add(self, name, config, stage):
        run = RunRecord(name, name, stage, config.fingerprint, config.model_dump(mode="json"), "local", {}, "c0de", 1.0)
        self.runs.append(run)
        self.layout.run(name).root.mkdir(parents=True)
        return run

    def trained(self, name, stage="stage1", *, steps=40, seed=0, losses=(1.0, 0.9, 0.95), **training):
        params = self.training(**training).model_dump(mode="json")
        config = RunConfig(task=TRAIN_TASK, steps=steps, seed=seed, params=params)
        run = self.add(name, config, stage)
        journal(self.layout.run(name), 1, [("start", {"resumed_from": None}), *lines(losses)])
        return run

    def evaluated(
        self,
        run=None,
        *,
        noise=0.1,
        systems=SYSTEMS,
        samples=1,
        prompt="raw",
        split="last200",
        batch=20,
        seed=0,
        adapter="",
        training=None,
        origin=None,
        extras=None,
        **base,
    ):
        """The evaluation of a run (None: of the base model or an adapter, with these settings); the run that it is.

        `extras` are the weights of extra baselines by name (empty for a method without), which forecast 0.1 too much.
        """
        settings = TrainingConfig(**run.config["params"]) if run else self.training(**base, **(training or {}))
        settings = settings.model_copy(update={"history_steps": origin or settings.history_steps})
        adapter = str(self.layout.run(run.name).final / "adapter") if run else adapter
        trial = EvaluationRequest(samples=samples, temperature=float(samples > 1), split=split, batch=batch, seed=seed)
        config = with_baselines(evaluation(settings, trial, systems, adapter, prompt), [*(extras or {})])
        first, end = settings.history_steps, settings.history_steps + settings.horizon_steps
        loaded = load_dataset(self.data, steps=end)
        truth = loaded.trajectories[systems, first:end].astype(np.float64)
        off = np.random.default_rng(0).standard_normal((samples, *truth.shape))
        made = Forecasts(truth[None] + noise * off, list(systems))
        name = f"eval-{run.name if run else 'zero-shot'}-{config.fingerprint[:4]}"
        result = self.layout.run(name).final / "result"
        done = self.add(name, config, "evaluate")
        result.mkdir(parents=True)
        write_forecasts(result / "forecasts.h5", made)
        kept = {
            key: ExtraForecasts(
                truth + 0.1, {"package": "p", "version": "2", **({"weights_sha256": weights} if weights else {})}
            )
            for key, weights in (extras or {}).items()
        }
        write_extras(result / "baselines.h5", kept)
        scores = examine(EvaluationConfig(**config.params), loaded, made, config.seed, kept)
        (result / "scores.json").write_text(json.dumps(scores))
        return done


def lines(losses, metric="loss"):
    """A training's journal: the untrained loss, then a step and a validation for each of the others."""
    yield "validation", {"step": 0, metric: losses[0]}
    for step, loss in enumerate(losses[1:], 1):
        yield "step", {"step": step, metric: loss + 0.5}
        yield "validation", {"step": step, metric: loss}


def journal(files, generation, entries):
    files.journals.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"kind": kind, "time": 1.0, **fields}) + "\n" for kind, fields in entries)
    files.journal(generation).write_text(text)


def rewrite_scores(finished, run, mae):
    """Give an evaluation these mean absolute errors by series, and their squares."""
    path = finished.layout.run(run.name).final / "result/scores.json"
    kept = json.loads(path.read_text())
    scores = score(np.zeros((len(mae), 1, 1)), np.asarray(mae)[:, None, None])
    kept["scores"] = kept["scores"] | {key: scores[key] for key in ("overall", "intervals", "by_system")}
    path.write_text(json.dumps(kept))


def a_material(finished, **changes):
    """The data of the figures and the answer of a study made by hand."""
    losses = {}
    for run in finished.runs:
        if run.stage != "evaluate":
            losses.setdefault(run.stage, []).append(read_losses(finished.layout.run(run.name)))
    loaded = load_dataset(finished.data)
    whole = {
        "data": (loaded.time, loaded.trajectories, HISTORY),
        "losses": losses,
        "evaluations": with_extras_shared(evaluated(finished.layout, finished.runs)),
        "load": lambda each: load_result(each.files.final, each.run),
        "baselines": lambda each: baselines_of(each.run)[0],
        "train": finished.training(),
    }
    return Material(**(whole | changes))
