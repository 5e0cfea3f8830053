"""`lvjobs evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvjobs.api.evaluate import evaluation_tables, prepare_evaluations, tables_of
from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.entering import SubmitOptions, enter_runs
from lvjobs.cli.settings import overrides, profile_option, resource_options, train_options
from lvjobs.cli.subjects import sampling_options, subject_options, trial_of
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study
from lvjobs.study.params import PromptName

if TYPE_CHECKING:
    from lvjobs.report.table import Table


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@subject_options
@click.option("--series", type=click.IntRange(min=1), help="How many of the held-out series (default: all).")
@click.option(
    "--split",
    type=click.Choice(["last200", "random"]),
    default="last200",
    show_default=True,
    help="Which fifth of the file is held out: the last, or one that is drawn by --seed.",
)
@sampling_options
@click.option("--likelihood", is_flag=True, help="Also score how likely the model holds the truth (a pass more).")
@click.option("--batch", type=click.IntRange(min=1), default=20, show_default=True, help="Series forecast at once.")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--table", is_flag=True, help="Print the study's Tables 2 and 3, in Markdown and LaTeX; submit nothing.")
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@click.option("--wait", is_flag=True, help="Keep making passes until the evaluations have ended or are held.")
@json_option
def evaluate(
    runs: tuple[str, ...],
    zero_shot: PromptName | None,
    adapter: Path | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    table: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast held-out series with RUNS, an adapter or the base model; score them beside the baselines.

    A job like any other, which comes after its run where that is not completed yet. Typed again, it shows the tables
    of what is evaluated already: of several runs, the report's Table 2 (rank and learning rate) and Table 3 (context
    length, zero-shot and final runs). `--table` alone is of all that was evaluated.
    """
    from lvjobs.report.terminal.score_lines import print_scores

    if table:
        if zero_shot or adapter:
            raise UsageError(
                "--table is of runs, and has the base models that were evaluated on the same series; leave "
                "--zero-shot and --adapter out"
            )
        show_tables(evaluation_tables(Study.open(root), runs), as_json=as_json)
        return
    study = load_study(root)
    trial = trial_of(options, "series", "split", "batch", "likelihood")
    prepared = prepare_evaluations(study, overrides(options, pairs, profile), trial, runs, zero_shot, adapter)
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
        click.echo(f"\nnot evaluated yet, and in no table: {', '.join(to_come)}")


def show_tables(tables: "list[Table]", *, as_json: bool) -> None:
    """Print tables in Markdown and LaTeX, or as JSON."""
    if as_json:
        print_json({"schema": 1, "tables": [made.to_dict() for made in tables]})
        return
    click.echo("\n\n".join(made.render(style) for made in tables for style in ("github", "latex_booktabs")))
