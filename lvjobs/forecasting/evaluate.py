"""The bundled evaluation, `lvjobs.forecasting.evaluate:evaluate`: held-out series forecast, and scored.

A step is a batch of series. A checkpoint holds the forecasts so far: finished series are not forecast again. The last
one holds the scores too, and becomes the run's `final/`. Extra baselines are made after the forecasts, in steps and
checkpoints of their own: a preemption meanwhile costs a batch of one baseline.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.base_weights import BaseWeights, check_same_weights
from lvjobs.forecasting.baselines.extras import CannotForecast, forecast_extra, made_by
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.data import load_declared
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.extra_files import BASELINES_FILE, ExtraForecasts, read_extras, write_extras
from lvjobs.forecasting.grammar import Sampling
from lvjobs.forecasting.likelihood import negative_log_likelihood
from lvjobs.forecasting.models import attach_adapter, load_base
from lvjobs.forecasting.results import FORECASTS, RESULT, SCORES, Forecasts, examine, read_forecasts, write_forecasts
from lvjobs.forecasting.tokens import Characters, prompts_of
from lvjobs.forecasting.windows import codec_of, shared_scale
from lvjobs.study.params import EvaluationConfig
from lvjobs.study.run import read_params
from lvjobs.worker import Run


def evaluate(run: Run) -> None:
    """Forecast by `run.config.params` (an `EvaluationConfig`), and score; stop when asked to."""
    config = read_params(EvaluationConfig, run.config.params)
    candidate = EvaluatedModel(config, run.config.seed, run.directory.name)
    resumed = run.resume()
    done, extras = None, {}
    if resumed:
        before = str(resumed.state.get("weights_sha256", ""))
        others = "evaluate again with another --seed"
        check_same_weights("the forecasts so far were made", before, candidate.base_weights, otherwise=others)
        kept = resumed.directory(RESULT)
        done = read_forecasts(kept / FORECASTS)
        extras = read_extras(kept / BASELINES_FILE, config.baselines) if run.step > config.batches else {}
    for step in range(run.step + 1, run.config.steps + 1):
        baseline, systems = config.step_of(step)
        if baseline:
            extras[baseline] = candidate.with_baseline(baseline, systems, extras.get(baseline))
            run.log(step)
        else:
            made = Forecasts(candidate.forecast(systems), systems, candidate.likelihood(systems))
            done = made if done is None else done + made
            run.generated(step, len(systems))
            run.log(step, mae=float(np.abs(np.median(made.samples, axis=0) - candidate.truth(systems)).mean()))
        stop = run.should_stop()
        if done is not None and (stop or run.due(step)):
            saver = candidate.saver(done, extras, is_last=step == run.config.steps)
            run.checkpoint(step, {RESULT: saver, "weights_sha256": candidate.base_weights.weights_sha256})
        if stop:
            return


class EvaluatedModel:
    """A model, and the series on which it is evaluated."""

    def __init__(self, config: EvaluationConfig, seed: int, name: str = "RUN") -> None:
        """Load data, model and adapter. `name` is the run's name, for messages with the command that resumes the run.

        Raises:
            LvjobsError: the data are not those that were declared; or model, adapter or prompt cannot be used.
        """
        self.config, self.seed = config, seed
        training = config.training
        self.codec = codec_of(training)
        path, steps = Path(training.data), training.history_steps + training.horizon_steps
        self.data = load_declared(path, training.data_sha256, steps=steps, name=name)
        if max(config.systems) >= len(self.data.trajectories):
            raise LvjobsError(
                f"{path} has {len(self.data.trajectories)} series, and series {max(config.systems)} is wanted; restore "
                "the file that this evaluation was declared with"
            )
        self.scale = shared_scale(self.data, self.codec, training)
        base, tokenizer = load_base(training)
        self.base_weights: BaseWeights = base.base_weights
        self.table = Characters(tokenizer, training.model, self.codec)
        variables = self.data.trajectories.shape[2]
        prompts = prompts_of(config.prompt, tokenizer, training.model, self.codec, variables)
        self.decoding = Decoding(config.batch, training.head, prompt=prompts(training.horizon_steps))
        self.model = attach_adapter(base, Path(config.adapter)) if config.adapter else base

    def history(self, systems: list[int]) -> Floats:
        """Return the histories, (series, history, variables)."""
        return self.data.trajectories[systems, : self.config.training.history_steps].astype(np.float64)

    def truth(self, systems: list[int]) -> Floats:
        """Return the truths, (series, horizon, variables), from the first step that the model has not seen."""
        first = self.config.training.history_steps
        return self.data.trajectories[systems, first : first + self.config.training.horizon_steps].astype(np.float64)

    def forecast(self, systems: list[int]) -> Floats:
        """Return forecasts, (samples, series, horizon, variables); one sample if they are greedy."""
        config = self.config
        return sample(
            self.model,
            self.table,
            self.codec,
            self.history(systems),
            config.training.horizon_steps,
            Sampling(config.samples, config.temperature, config.top_p, self.seed) if config.temperature else None,
            decoding=self.decoding,
            numbers=systems,
            scale=self.scale,
        )

    def likelihood(self, systems: list[int]) -> Floats | None:
        """Return the negative log-likelihood of the truth, nats, (series, horizon); None if not requested."""
        if not self.config.likelihood:
            return None
        return negative_log_likelihood(
            self.model,
            self.table,
            self.codec,
            self.history(systems),
            self.truth(systems),
            batch=self.config.batch,
            scale=self.scale,
            prompt=self.decoding.prompt,
        )

    def with_baseline(self, name: str, systems: list[int], before: ExtraForecasts | None) -> ExtraForecasts:
        """Return an extra baseline's forecasts with those of further series.

        If another version or other weights made those `before`, they are made again.

        Raises:
            LvjobsError: its package or its model is not here, or the model cannot be loaded.
        """
        evidence = made_by(name)
        if before is not None and before.made_by == evidence:
            if before.problem:
                return before
            known = before
        else:
            systems = self.config.systems[: self.config.systems.index(systems[-1]) + 1]
            _, horizon, variables = self.truth(systems).shape
            known = ExtraForecasts(np.zeros((0, horizon, variables)), evidence)
        try:
            return known + forecast_extra(name, self.history(systems), self.config.training.horizon_steps, systems)
        except CannotForecast as error:
            return replace(known, problem=str(error))

    def saver(self, done: Forecasts, extras: Mapping[str, ExtraForecasts], *, is_last: bool) -> Any:
        """Return a Saver of the forecasts and extra baselines so far, and of the scores with the last of them."""
        extras = dict(extras)

        def save(directory: Path) -> None:
            write_forecasts(directory / FORECASTS, done)
            if extras:
                write_extras(directory / BASELINES_FILE, extras)
            if is_last:
                result = examine(self.config, self.data, done, self.seed, extras)
                result["weights_sha256"] = self.base_weights.weights_sha256
                (directory / SCORES).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")

        return save
