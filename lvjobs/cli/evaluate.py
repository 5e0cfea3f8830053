"""`lvjobs evaluate` and `lvjobs forecast`, and the options that they share."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.evaluate import make_trial, prepare_evaluations
from lvjobs.api.forecast import prepare_forecast
from lvjobs.api.score_tables import evaluation_tables, tables_of
from lvjobs.api.study import Study
from lvjobs.cli.common import complete_runs, json_option, print_found, print_json, study_option, together
from lvjobs.cli.help import Command
from lvjobs.cli.settings import overrides, profile_option, resource_options, subject_settings
from lvjobs.cli.submit import SubmitOptions, enter_runs
from lvjobs.errors import UsageError
from lvjobs.forecasting.evaluations import EvaluationRequest
from lvjobs.report.table import FILE_STYLES, Table
from lvjobs.study.fields import as_int
from lvjobs.study.params import PromptName

subject_options = together(
    click.option(
        "--zero-shot",
        type=click.Choice(["raw", "instruct"]),
        help="Evaluate the untrained base model, with this prompt.",
    ),
    click.option(
        "--adapter",
        type=click.Path(path_type=Path),
        help="Directory of a PEFT adapter, or a training checkpoint.",
    ),
)
sampling_options = together(
    click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Forecasts per series."),
    click.option(
        "--temperature", type=click.FloatRange(min=0), help="0 is greedy (default: 0, or 1 with several samples)."
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(min=0, max=1, min_open=True),
        default=1.0,
        show_default=True,
        help="Sample from the most likely digits whose probabilities add up to this.",
    ),
)


def trial_of(options: dict[str, Any], *more: str) -> EvaluationRequest:
    """Return the forecast settings from the sampling options and the fields `more`. Remove these from `options`.

    Raises:
        UsageError: Several samples at temperature 0 would all be the same; or the seed is no whole number.
    """
    own = {key: options.pop(key) for key in ("samples", "temperature", "top_p", *more)}
    try:
        seed = as_int(options["seed"] or 0)
    except ValueError as error:
        raise UsageError(f"--seed: {error}; write one, such as 7") from None
    return make_trial(**own, seed=seed)


@click.command(cls=Command)
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@subject_options
@click.option("--series", type=click.IntRange(min=1), help="Number of held-out series, for each fold (default: all).")
@click.option(
    "--split",
    type=click.Choice(["last200", "random"]),
    default="last200",
    show_default=True,
    help="Which systems are held out: those of the training's own split (by default the last fifth of the file; of a "
    "k-fold split, one fold of each run, and all folds of the base model), or a fifth that is drawn by --seed.",
)
@click.option(
    "--origin",
    "origins",
    type=click.IntRange(min=1),
    multiple=True,
    help="Number of observed steps to forecast from (default: the training's history_steps). Repeatable.",
)
@click.option(
    "--baseline",
    "baselines",
    metavar="NAME",
    multiple=True,
    help="Extra baseline: auto-arima, auto-ets, auto-theta, chronos:MODEL (default: [evaluation]). Repeatable; "
    '"" for none.',
)
@sampling_options
@click.option("--likelihood", is_flag=True, help="Also score the likelihood of the truth (one more forward pass).")
@click.option("--batch", type=click.IntRange(min=1), default=20, show_default=True, help="Series per batch.")
@study_option
@profile_option
@subject_settings
@resource_options
@click.option("--again", is_flag=True, help="Evaluate although another evaluation has the same forecasts.")
@click.option("--table", is_flag=True, help="Print Tables 2 and 3 in Markdown and LaTeX; submit nothing.")
@click.option("--dry-run", is_flag=True, help="Print the batch script and the cost; submit nothing.")
@click.option("--wait", is_flag=True, help="Wait until the evaluations are finished or held.")
@json_option
def evaluate(
    runs: tuple[str, ...],
    zero_shot: PromptName | None,
    adapter: Path | None,
    origins: tuple[int, ...],
    baselines: tuple[str, ...],
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    again: bool,
    table: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast held-out series with RUNS, an adapter or the base model; score them beside the baselines.

    An evaluation is a job; it starts when its run is completed. The same command, typed again, shows the scores. For
    several runs, these are Table 2 (rank and learning rate) and Table 3 (context length, zero-shot and final runs) of
    the report. --table without RUNS shows all evaluations.
    """
    from lvjobs.report.terminal.run_lines import print_scores

    if table:
        if zero_shot or adapter:
            raise UsageError(
                "--table shows runs, beside the base models evaluated on the same series; leave --zero-shot and "
                "--adapter out"
            )
        show_tables(evaluation_tables(Study.open(root), runs), as_json=as_json)
        return
    study = Study.open(root)
    trial = trial_of(options, "series", "split", "batch", "likelihood")
    given = overrides(options, pairs, profile)
    prepared = prepare_evaluations(
        study, given, trial, runs, zero_shot, adapter, origins, _named(baselines), again=again
    )
    enter_runs(prepared, SubmitOptions(dry_run, wait, as_json))
    if dry_run or as_json:
        return
    names = prepared.wanted.names
    if len(names) == 1:
        print_scores(study.layout.run(names[0]))
        return
    tables, to_come = tables_of(study, names)
    for made in tables:
        click.echo("\n" + made.narrow().render("simple"))
    if to_come:
        click.echo(f"\nnot evaluated yet, so not in these tables: {', '.join(to_come)}")


def _named(baselines: tuple[str, ...]) -> list[str] | None:
    """Return the typed extra baselines: none for a single "", and None (those of study.toml) if nothing is typed."""
    if "" in baselines and any(baselines):
        raise UsageError('--baseline "" means no extra baselines, so it excludes the others; give one or the other')
    return [name for name in baselines if name] if baselines else None


def show_tables(tables: list[Table], *, as_json: bool) -> None:
    """Print tables in Markdown and LaTeX, or as JSON."""
    found = {"schema": 1, "tables": [made.to_dict() for made in tables]}
    text = "\n\n".join(made.render(style) for made in tables for style in FILE_STYLES.values())
    print_found(found, [text], as_json=as_json)


@click.command(cls=Command)
@click.argument("run", required=False, shell_complete=complete_runs)
@subject_options
@click.option("--series", type=click.IntRange(min=0), required=True, help="Index of the series in the file, from 0.")
@sampling_options
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: forecasts/NAME-series-N.")
@study_option
@profile_option
@subject_settings
@resource_options
@click.option("--dry-run", is_flag=True, help="Print the batch script and the cost; submit nothing.")
@click.option("--wait", is_flag=True, help="Wait until the forecast is finished or held.")
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

    If an evaluation already holds this series, its forecast is used; otherwise a job is submitted, and the same
    command, typed again, writes its forecast.
    """
    options["split"] = "asked"
    study, trial = Study.open(root), trial_of(options, "split")
    given = overrides(options, pairs, profile)
    prepared = prepare_forecast(study, given, trial, series, run, zero_shot, adapter)
    if prepared.warning:
        click.echo(f"warning: {prepared.warning}", err=True)
    found = prepared.found()
    if found is not None and dry_run:
        if as_json:
            print_json({"schema": 1, "outcome": "exists", "evaluation": found.files.root.name})
        else:
            click.echo(f"# nothing to submit: {found.files.root.name} holds series {series} already")
        return
    submitted = found is None
    if found is None:
        enter_runs(prepared.runs, SubmitOptions(dry_run, wait, as_json))
        found = None if dry_run else prepared.found()
        if found is None:
            if not (dry_run or as_json):
                click.echo("the forecast is not finished; run the same command later to write it")
            return
    files = prepared.write(found, out)
    if as_json and not submitted:  # else the submission was printed: one object, not two
        print_json({"schema": 1, **files})
    elif not as_json:
        click.echo(f"{files['directory']}: {', '.join(files['files'])} (from {files['evaluation']})")
