"""Finished evaluations: the run behind each, its configuration, which compare, and how to repeat one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvjobs.ledger.records import RunRecord
from lvjobs.records.run_files import Done
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.params import SPLIT, EvaluationConfig, TrainingConfig
from lvjobs.study.run import FOLD, RunConfig, read_params
from lvjobs.tasks.registry import task_of

OF_THE_BASE = ("model", "decimals", "scaling", "scale_target", "scale_alpha", "scale_beta", "scale_power")
"""The training settings that decide how the base model reads and writes series."""

_IGNORED = {"data", "data_sha256", "data_systems", "lora_alpha", "validation_limit"}
"""Training settings on which no metric depends, or that another key holds."""
SCORES = "result/scores.json"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that is done.

    Attributes:
        files: Its run directory.
        run: The declared configuration.
        trained: The run that was evaluated; None for a base model, or an adapter from elsewhere.
        steps: The number of steps of that run when it was completed.
        scores: Its result (docs/evaluate.md).
        parts: The evaluations that this one pools, each of another fold (`report.folds`); its other attributes are
            those of the first, except `scores`. Empty for an evaluation by itself.
        extras: The extra baselines in `scores`, each with the evaluation that made it and its name there
            (`report.extras`).
        base_origin: The forecast origin of [train], which is that of base models; None: it is not known.
    """

    files: RunLayout
    run: RunConfig
    trained: RunRecord | None
    steps: int | None
    scores: Mapping[str, Any]
    parts: Sequence["Evaluated"] = ()
    base_origin: int | None = None
    extras: Mapping[str, tuple["Evaluated", str]] = field(default_factory=dict)

    @property
    def config(self) -> EvaluationConfig:
        """Return how the forecasts were made."""
        return read_params(EvaluationConfig, self.run.params)

    @property
    def subject(self) -> str:
        """Return the name of what was evaluated: the run, the adapter, or `zero-shot` with the prompt.

        A run of one fold stands for those of all folds.
        """
        if self.parts:
            return f"{self.parts[0].subject} ({len(self.parts)} folds)"
        if self.trained is not None:
            return self.trained.name
        if not self.config.adapter:
            return f"zero-shot {self.config.prompt}"
        directory = Path(self.config.adapter)
        return directory.parent.name if directory.name == "adapter" else directory.name  # of a checkpoint

    @property
    def alone(self) -> Sequence["Evaluated"]:
        """Return the evaluations that were made: itself, or its parts."""
        return self.parts or (self,)

    @property
    def mae(self) -> float:
        """Return the mean absolute error over all series."""
        return float(self.scores["scores"]["overall"]["mae"])

    @property
    def is_zero_shot(self) -> bool:
        """Return whether the base model was evaluated without an adapter."""
        return not self.config.adapter

    @property
    def own_origin(self) -> int | None:
        """Return the `history_steps` with which the run was trained; for other models, that of [train]."""
        return self.base_origin if self.trained is None else origin_of(self.trained)

    @property
    def is_moved(self) -> bool:
        """Return whether the forecasts are from another origin than the model's own."""
        return self.own_origin not in (None, self.scores["history"])

    def is_base_of(self, other: "Evaluated") -> bool:
        """Return whether this is the base model of `other`, with the same settings for reading and writing series."""
        own, its = self.config.training, other.config.training
        return self.is_zero_shot and all(getattr(own, key) == getattr(its, key) for key in OF_THE_BASE)

    @property
    def comparable(self) -> str:
        """Return a key that is equal for evaluations of the same series, forecast and decoded in the same way."""
        return json.dumps([self.scores["history"], self.comparable_elsewhere])

    @property
    def comparable_elsewhere(self) -> str:
        """Return the same key without the forecast origin."""
        config, scores = self.config, self.scores
        same = [scores[key] for key in ("data_sha256", "split", "systems", "horizon", "prompt", "samples")]
        return json.dumps([*same, config.temperature, config.top_p if config.temperature else 1.0])

    @property
    def identity(self) -> str:
        """Return a key that is equal for evaluations of one model with equal forecasts; only batches may differ."""
        config = self.config
        seed = self.run.seed if config.temperature else None
        return json.dumps([config.training.model_dump(mode="json"), config.adapter, seed])

    @property
    def circumstances(self) -> str:
        """Return in words what `comparable` compares."""
        return self.described(f"{self.scores['history']} steps of history, the next {self.scores['horizon']} forecast")

    def described(self, steps: str) -> str:
        """Return `circumstances` with other words for the steps that are seen and forecast."""
        config, scores = self.config, self.scores
        drawn = {"asked": "requested by hand"}.get(scores["split"], f"held out by {scores['split']}")
        how = f"medians of {config.samples} samples at temperature {config.temperature:g}"
        return (
            f"{len(scores['systems'])} series {drawn}, {steps}; prompt {scores['prompt']}, "
            f"{how if config.temperature else 'greedy'}"
        )


def settings_of(each: Evaluated) -> dict[str, Any]:
    """Return all settings that a run's metrics may depend on: the task's own keys, its steps and its seed."""
    settings = {key: value for key, value in each.config.training.model_dump().items() if key not in _IGNORED}
    if each.parts:
        settings.pop(FOLD)
    settings["alpha / rank"] = (each.config.training.lora_alpha or settings["lora_rank"]) / settings["lora_rank"]
    if each.trained is not None:
        settings |= {"steps": each.trained.steps, "seed": int(each.trained.config["seed"])}
        settings["history_steps"] = origin_of(each.trained)  # as it was trained, from wherever it forecasts
    return settings


def origin_of(run: RunRecord) -> int:
    """Return the forecast origin with which a run was trained."""
    return task_of(run.config).origin(run.params)


def read_scores(files: RunLayout) -> dict[str, Any] | None:
    """Return the result of an evaluation; None if it is not done."""
    try:
        found: dict[str, Any] = json.loads((files.final / SCORES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def evaluated(layout: StudyLayout, runs: Iterable[RunRecord], base_origin: int | None = None) -> list[Evaluated]:
    """Return the study's finished evaluations, in the order in which they were declared.

    `base_origin`: see `Evaluated`.
    """
    every = list(runs)
    trainings = [run for run in every if task_of(run.config).can_be_evaluated]
    by_adapter = {str(layout.run(run.name).final / "adapter"): run for run in trainings}
    by_id = {run.id: run for run in trainings}  # a study that was moved has its adapters elsewhere
    found = []
    for run in every:
        files = layout.run(run.name)
        if task_of(run.config).is_evaluation and (scores := read_scores(files)) is not None:
            trained = by_adapter.get(run.params["adapter"]) or by_id.get(run.after)
            steps = None if trained is None else _steps_of(layout.run(trained.name), trained)
            found.append(Evaluated(files, run.configuration, trained, steps, scores, base_origin=base_origin))
    return found


def _steps_of(files: RunLayout, run: RunRecord) -> int:
    """Return the run's steps; fewer than declared if it was stopped early."""
    try:
        return Done.from_json(files.done.read_text(encoding="utf-8")).step
    except (OSError, ValueError):
        return run.steps


def groups(evaluations: Iterable[Evaluated]) -> list[list[Evaluated]]:
    """Return groups of evaluations that compare, the largest first.

    Series that were chosen by hand are left out. Of several equal evaluations of one model, the first is kept.
    Groups in which every model forecasts from another origin than its own are left out where there is any other
    group: `origin_table` has them.
    """
    found: dict[str, dict[str, Evaluated]] = {}
    for each in evaluations:
        if each.scores["split"] != "asked":
            found.setdefault(each.comparable, {}).setdefault(each.identity, each)
    every = sorted((list(group.values()) for group in found.values()), key=len, reverse=True)
    return [group for group in every if not all(each.is_moved for each in group)] or every


def largest_group(evaluations: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the group with the most series, if possible one with an evaluated run; empty if there is none.

    Where models forecast from their own origin, no other is chosen (see `groups`).
    """
    candidates = sorted(groups(evaluations), key=lambda group: -len(group[0].scores["systems"]))
    if not candidates:
        return []
    return next((group for group in candidates if any(each.trained for each in group)), candidates[0])


_SERIES = ("data", "history_steps", "horizon_steps", *SPLIT)


def subject_again(each: Evaluated, train: TrainingConfig | None) -> list[str]:
    """Return arguments that name the model of an evaluation, and its series: `one --series 20`.

    Args:
        each: The evaluation.
        train: [train] of study.toml, from which the command takes its defaults; None if it is not known.
    """
    if each.trained is not None:
        return [each.trained.name, *_series(each)]
    if not each.is_zero_shot:
        return ["--adapter", each.config.adapter, *_settings(each, train), *_series(each)]
    return ["--zero-shot", each.config.prompt, *_settings(each, train), *_series(each)]


def base_of(each: Evaluated, train: TrainingConfig | None) -> list[str]:
    """Return arguments after `--zero-shot` that evaluate the base model on the same series, decoded in the same way."""
    return [each.config.prompt, *_settings(each, train), *_series(each), *_sampling(each)]


def sampled_like(chosen: Evaluated, evaluations: Sequence[Evaluated]) -> Evaluated | None:
    """Return the same model's evaluation on the same series with several samples, which alone has bands; else None.

    None too if `chosen` has several samples itself.
    """
    if chosen.config.samples > 1:
        return None
    own = (chosen.config.training, chosen.config.adapter, chosen.config.prompt, chosen.scores["systems"])
    for each in evaluations:
        config = each.config
        if config.samples > 1 and (config.training, config.adapter, config.prompt, each.scores["systems"]) == own:
            return each
    return None


def _series(each: Evaluated) -> list[str]:
    words = ["--series", str(len(each.config.systems))]
    return [*words, "--split", "random", "--seed", str(each.run.seed)] if each.config.split == "random" else words


def _sampling(each: Evaluated) -> list[str]:
    config = each.config
    if not config.temperature:
        return []
    words = ["--samples", str(config.samples), "--temperature", f"{config.temperature:g}"]
    words += ["--top-p", f"{config.top_p:g}"] if config.top_p != 1 else []
    return words if config.split == "random" else [*words, "--seed", str(each.run.seed)]


def _settings(each: Evaluated, train: TrainingConfig | None) -> list[str]:
    """Return the settings that decide how series are read and written, if they differ from study.toml."""
    own, words = each.config.training, []
    for key in (*OF_THE_BASE, *_SERIES):
        value = getattr(own, key)
        if key == "data" and train is not None and own.data_sha256 == train.data_sha256 != "":
            continue  # the same file, though at another path when the other evaluation was made
        if train is None or value != getattr(train, key):
            words += ["--set", f"{key}={value}"]
    return words
