"""`lvjobs evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import READ_WAIT_SECONDS, WRITE_WAIT_SECONDS, json_option, study_option
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.settings import pinned, profile_option, resource_options, settle, train_options
from lvjobs.control.declare import EVALUATE, Wanted
from lvjobs.control.evaluations import Trial, adapter_of, evaluation, evaluation_name, training_of
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Run
from lvjobs.study.config import Study, load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TrainingConfig


@click.command()
@click.argument("runs", nargs=-1)
@click.option("--zero-shot", type=click.Choice(["raw", "instruct"]), help="The base model as it is, with this prompt.")
@click.option("--adapter", type=click.Path(path_type=Path), help="An adapter's directory, in PEFT's format.")
@click.option("--series", type=click.IntRange(min=1), help="How many of the held-out series (default: all).")
@click.option("--split", type=click.Choice(["last200", "random"]), default="last200", show_default=True)
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Forecasts a series.")
@click.option(
    "--temperature", type=click.FloatRange(min=0), help="0 is greedy (default: 0, or 1 with several samples)."
)
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=1.0, show_default=True)
@click.option("--likelihood", is_flag=True, help="Also score how likely the model holds the truth (a pass more).")
@click.option("--batch", type=click.IntRange(min=1), default=20, show_default=True, help="Series forecast at once.")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@click.option("--wait", is_flag=True, help="Keep making passes until the evaluations have ended or are held.")
@json_option
def evaluate(
    runs: tuple[str, ...],
    zero_shot: str | None,
    adapter: Path | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast held-out series with RUNS, an adapter or the base model; score them beside the baselines.

    A job like any other, which comes after its run where that is not completed yet. Typed again, it shows the tables
    of what is evaluated already.
    """
    from lvjobs.report.evaluation import print_evaluations

    if (bool(runs) + bool(zero_shot) + bool(adapter)) != 1:
        raise UsageError("name what to evaluate: RUN..., or --zero-shot raw|instruct, or --adapter DIRECTORY")
    study = load_study(root)
    trial = _trial(options)
    settings, resources, used_profile = settle(study, options, pairs, profile)
    after: list[str] = []
    if runs:
        found = _found(study, runs)
        configs = [_of_run(study, run, trial) for run in found]
        names = [evaluation_name(run.name, config) for run, config in zip(found, configs, strict=True)]
        after = [run.id for run in found]
    else:
        directory = str((study.root / adapter.expanduser()).absolute()) if adapter else ""
        if adapter and not (Path(directory) / "adapter_config.json").is_file():
            raise UsageError(f"{directory} holds no adapter_config.json: name the directory that PEFT saved")
        # Read for the model and the data alone; `pinned` says at once if the data cannot be used.
        training = TrainingConfig.model_validate(pinned(settings, study).run_config().params)
        systems = held_out(training, trial, trained=bool(adapter))
        prompt = zero_shot if zero_shot == "instruct" else "raw"
        configs = [evaluation(training, trial, systems, directory, prompt)]  # type: ignore[arg-type]
        subject = adapter.name if adapter else f"zero-shot-{zero_shot}-{Path(settings.model).name}"
        names = [evaluation_name(subject, configs[0])]
    wanted = Wanted(configs, names, EVALUATE, used_profile, resources, after=after)
    manner = Manner(dry_run, wait, as_json, fit=False, yes=False, patience=WRITE_WAIT_SECONDS)
    enter_runs(study, wanted, lambda config: evaluation_name("", config), manner)
    if not (dry_run or as_json):
        print_evaluations([study.layout.run(name) for name in names])


def _trial(options: dict[str, Any]) -> Trial:
    samples, temperature = options.pop("samples"), options.pop("temperature")
    if temperature is None:
        temperature = 0.0 if samples == 1 else 1.0
    if samples > 1 and not temperature:
        raise UsageError("--temperature 0 makes every sample the same: leave --samples out, or give a temperature")
    return Trial(
        series=options.pop("series"),
        split=options.pop("split"),
        samples=samples,
        temperature=temperature,
        top_p=options.pop("top_p"),
        batch=options.pop("batch"),
        likelihood=options.pop("likelihood"),
        seed=int(options["seed"] or 0),
    )


def held_out(training: TrainingConfig, trial: Trial, *, trained: bool) -> list[int]:
    """The systems that are forecast: the first `trial.series` of the split's.

    Raises:
        UsageError: the data cannot be read; or, of a model that was `trained` on some, the split would score those.
    """
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import make_split

    steps = training.history_steps + training.horizon_steps
    systems = len(load_dataset(Path(training.data), steps=steps).trajectories)
    split = make_split(
        systems,
        trial.split,
        seed=trial.seed,
        history=training.history_steps,
        horizon=training.horizon_steps,
    )
    if trained:
        split.reject_seen(make_split(systems).train[: training.train_systems])
    return list(split.test[: trial.series])


def _of_run(study: Study, run: Run, trial: Trial) -> RunConfig:
    """The evaluation of a run's final adapter, on series that it has not seen, in the format it was trained in."""
    training = training_of(run)
    systems = held_out(training, trial, trained=True)
    return evaluation(training, trial, systems, adapter_of(study.layout.run(run.name)), training.format)


def evaluation_to_come(study: Study, name: str, config: RunConfig) -> tuple[RunConfig, str]:
    """The evaluation, with its name, of a run that is not trained yet: all held-out series, greedily."""
    training, trial = TrainingConfig.model_validate(config.params), Trial()
    systems = held_out(training, trial, trained=True)
    made = evaluation(training, trial, systems, adapter_of(study.layout.run(name)), training.format)
    return made, evaluation_name(name, made)


def _found(study: Study, names: Sequence[str]) -> list[Run]:
    from lvjobs.control.foresee import look

    seen = look(study, READ_WAIT_SECONDS)
    if seen.problem:
        raise UsageError(seen.problem)
    by_name = {run.name: run for run in seen.runs}
    for name in names:
        if name not in by_name:
            raise UsageError(f"no run {name!r} in this study; type: lvjobs status")
    return [by_name[name] for name in names]
