"""The arguments of `lvjobs evaluate` that evaluate a model as another was, so that both compare. Pure."""

from collections.abc import Sequence

from lvjobs.report.evaluated import OF_THE_BASE, Evaluated
from lvjobs.study.params import TrainingConfig

_SERIES = ("data", "history_steps", "horizon_steps")


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
    own = (chosen.config.training, chosen.config.adapter, chosen.config.prompt, chosen.config.systems)
    for each in evaluations:
        config = each.config
        if config.samples > 1 and (config.training, config.adapter, config.prompt, config.systems) == own:
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
