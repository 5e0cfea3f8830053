"""`lvjobs forecast`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, json_option, print_json, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.settings import profile_option, resource_options, settle, train_options
from lvjobs.cli.subjects import (
    Subject,
    done_evaluations,
    find_subjects,
    sampling_of,
    sampling_options,
    subject_options,
    systems_in,
)
from lvjobs.control.stages.evaluations import Trial, evaluation, evaluation_name, same_forecast
from lvjobs.control.submission.declare import EVALUATE, Wanted
from lvjobs.errors import UsageError
from lvjobs.study.config import Study, load_study
from lvjobs.study.run import RunConfig

if TYPE_CHECKING:
    from lvjobs.forecasting.series_forecast import SeriesForecast
    from lvjobs.report.evaluated import Evaluated

_MARKER = "forecast.json"


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@subject_options
@click.option(
    "--series", type=click.IntRange(min=0), required=True, help="Which series: its index in the file, from 0."
)
@sampling_options
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: forecasts/NAME-series-N.")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@click.option("--wait", is_flag=True, help="Keep making passes until the forecast is made or held.")
@json_option
def forecast(
    run: str | None,
    zero_shot: str | None,
    adapter: Path | None,
    series: int,
    out: Path | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast one series with RUN, an adapter or the base model; write the numbers and a plot, beside the baselines.

    Taken from an evaluation that holds this series already; else it is a job like any other, and the command typed
    again writes what it made.
    """
    study = load_study(root)
    trial = Trial(split="asked", **sampling_of(options))
    settings, resources, used_profile = settle(study, options, pairs, profile)
    (subject,) = find_subjects(study, [run] if run else [], zero_shot, adapter, settings)
    role = _role(subject, series)
    config = evaluation(subject.training, trial, [series], subject.adapter, subject.prompt)
    directory = out if out is not None else study.root / "forecasts" / f"{subject.name}-series-{series}"
    if role:
        what, meaning = _SEEN[role]
        click.echo(f"warning: series {series} is {what} of {subject.name}: {meaning}", err=True)
    found = _found(study, config, series)
    if found is not None and dry_run:
        if as_json:
            print_json({"schema": 1, "outcome": "exists", "evaluation": found.files.root.name})
        else:
            click.echo(f"# nothing would be submitted: {found.files.root.name} holds series {series} already")
        return
    submitted = found is None
    if found is None:
        name = evaluation_name(f"{subject.name}-series-{series}", config)
        wanted = Wanted([config], [name], EVALUATE, used_profile, resources, after=[subject.after])
        manner = Manner(dry_run, wait, as_json, fit=False, yes=False, patience=WRITE_WAIT_SECONDS)
        enter_runs(study, wanted, lambda config: evaluation_name("", config), manner)
        found = None if dry_run else _found(study, config, series)
        if found is None:
            if not (dry_run or as_json):
                click.echo("the forecast is not made yet; when it is, the same command writes it")
            return
    files = _write(directory, _with_evidence(found, subject, series, role))
    if as_json and not submitted:  # else the submission was printed: one object, not two
        print_json({"schema": 1, **files})
    elif not as_json:
        click.echo(f"{directory}: {', '.join(files['files'])} (from {files['evaluation']})")


_SEEN = {  # by the key that the evidence has
    "trained_on": ("TRAINING DATA", "how well it is forecast says nothing of other series"),
    "validated_on": ("VALIDATION DATA", "its checkpoints may have been chosen by how well they forecast it"),
}


def _role(subject: Subject, series: int) -> str:
    """What the series was to the model: a key of `_SEEN`, or "" where it had no say in it.

    Raises:
        UsageError: the file has no such series.
    """
    from lvjobs.forecasting.splits import training_split

    total = systems_in(subject.training)
    if series >= total:
        raise UsageError(
            f"--series {series}: {subject.training.data} holds series 0 to {total - 1}; choose one of them"
        )
    if not subject.adapter:
        return ""
    split = training_split(total, subject.training)
    if series in split.train:
        return "trained_on"
    return "validated_on" if series in split.validating[: subject.training.validation_limit] else ""


def _found(study: Study, config: RunConfig, series: int) -> "Evaluated | None":
    """An evaluation that forecast this series with the same model in the same way, as it is on disk now.

    Raises:
        UsageError: there is one, but the adapter was changed since.
    """
    from lvjobs.forecasting.examine import sha256_of_adapter

    for each in done_evaluations(study):
        if series in each.scores["systems"] and same_forecast(each.run, config):
            if each.scores["adapter_sha256"] != sha256_of_adapter(each.config.adapter):
                raise UsageError(
                    f"{each.config.adapter} was changed since {each.files.root.name} was made with it; copy the "
                    "adapter to a directory of its own and name that"
                )
            return each
    return None


def _with_evidence(found: "Evaluated", subject: Subject, series: int, role: str) -> "SeriesForecast":
    from lvjobs import __version__
    from lvjobs.forecasting.results import load_series

    made = load_series(found.files.final, found.run, series)
    more = {"name": subject.name, "evaluation": found.files.root.name, "evaluation_fingerprint": found.run.fingerprint}
    seen = {key: key == role for key in _SEEN}
    return replace(made, evidence={**made.evidence, **more, **seen, "lvjobs": __version__})


def _write(directory: Path, made: "SeriesForecast") -> dict[str, Any]:
    """All files; what they are, their evidence and the errors of this series.

    Raises:
        UsageError: the directory holds something else.
    """
    from lvjobs.files import write_atomic, write_json
    from lvjobs.report.figures.forecasts import forecast as forecast_chart
    from lvjobs.report.figures.printed import save
    from lvjobs.report.outputs import claim

    keys = ("name", "adapter_sha256", "data_sha256", "prompt", "samples", "temperature", "top_p", "seed")
    identity = {"series": made.series, **{key: made.evidence[key] for key in keys}}
    claim(directory, _MARKER, identity)
    write_atomic(directory / "forecast.csv", made.to_csv())
    made.write_hdf5(directory / "forecast.h5")
    chart = forecast_chart(
        made.series,
        made.time,
        made.truth,
        made.history,
        made.forecast,
        made.baselines,
        quantiles=made.quantiles,
        label=f"{made.evidence['name']}{' (median)' if made.quantiles else ''}",
        warning="".join(f"{what} of this model" for key, (what, _) in _SEEN.items() if made.evidence[key]),
    )
    drawn = save(chart, directory, "forecast")
    described = {**made.evidence, "series": made.series, "errors": made.errors()}
    write_json(directory / _MARKER, described)
    return {"directory": str(directory), "files": ["forecast.csv", "forecast.h5", *drawn, _MARKER], **described}
