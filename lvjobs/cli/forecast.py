"""`lvjobs forecast`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.forecast import prepare_forecast
from lvjobs.cli.common import json_option, print_json, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.entering import SubmitOptions, enter_runs
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.cli.subjects import sampling_options, subject_options, trial_of
from lvjobs.study.config import load_study
from lvjobs.study.params import PromptName


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
    zero_shot: PromptName | None,
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
    options["split"] = "asked"
    study, trial = load_study(root), trial_of(options, "split")
    given = overrides(options, pairs, profile)
    prepared = prepare_forecast(study, given, trial, series, run, zero_shot, adapter)
    if prepared.warning:
        click.echo(f"warning: {prepared.warning}", err=True)
    found = prepared.found()
    if found is not None and dry_run:
        if as_json:
            print_json({"schema": 1, "outcome": "exists", "evaluation": found.files.root.name})
        else:
            click.echo(f"# nothing would be submitted: {found.files.root.name} holds series {series} already")
        return
    submitted = found is None
    if found is None:
        enter_runs(prepared.runs, SubmitOptions(dry_run, wait, as_json))
        found = None if dry_run else prepared.found()
        if found is None:
            if not (dry_run or as_json):
                click.echo("the forecast is not made yet; when it is, the same command writes it")
            return
    files = prepared.write(found, out)
    if as_json and not submitted:  # else the submission was printed: one object, not two
        print_json({"schema": 1, **files})
    elif not as_json:
        click.echo(f"{files['directory']}: {', '.join(files['files'])} (from {files['evaluation']})")
