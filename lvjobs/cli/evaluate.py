"""`lvjobs evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.settings import profile_option, resource_options, settle, train_options
from lvjobs.cli.subjects import (
    Subject,
    done_evaluations,
    find_runs,
    find_subjects,
    held_out,
    sampling_of,
    sampling_options,
    subject_options,
)
from lvjobs.control.stages.evaluations import Trial, adapter_of, evaluation, evaluation_name
from lvjobs.control.submission.declare import EVALUATE, Wanted
from lvjobs.errors import UsageError
from lvjobs.study.config import Study, load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TrainingConfig


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
    zero_shot: str | None,
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
    from lvjobs.report.evaluation import print_evaluations

    if table:
        if zero_shot or adapter:
            raise UsageError(
                "--table is of runs, and has the base models that were evaluated on the same series; leave "
                "--zero-shot and --adapter out"
            )
        show_tables(existing_study(root), runs, as_json=as_json)
        return
    study = load_study(root)
    trial = _trial(options)
    settings, resources, used_profile = settle(study, options, pairs, profile)
    subjects = find_subjects(study, runs, zero_shot, adapter, settings)
    configs = [_evaluation_of(subject, trial) for subject in subjects]
    names = [evaluation_name(subject.name, config) for subject, config in zip(subjects, configs, strict=True)]
    after = [subject.after for subject in subjects]
    wanted = Wanted(configs, names, EVALUATE, used_profile, resources, after=after)
    manner = Manner(dry_run, wait, as_json, fit=False, yes=False, patience=WRITE_WAIT_SECONDS)
    enter_runs(study, wanted, lambda config: evaluation_name("", config), manner)
    if dry_run or as_json:
        return
    if len(names) == 1:
        print_evaluations([study.layout.run(name) for name in names])
        return
    from lvjobs.report.study_tables import study_tables

    done = done_evaluations(study)
    chosen = [each for each in done if each.files.root.name in names]
    same = {each.comparable for each in chosen}
    chosen += [each for each in done if each.is_zero_shot and each.comparable in same]
    for made in study_tables(chosen):
        click.echo("\n" + made.render())
    found = {each.files.root.name for each in chosen}
    if waiting := [name for name in names if name not in found]:
        click.echo(f"\nnot evaluated yet, and in no table: {', '.join(waiting)}")


def show_tables(study: Study, runs: Sequence[str], *, as_json: bool) -> None:
    """Tables 2 and 3 of these runs, or of all, from evaluations that are done.

    Raises:
        UsageError: there is nothing to show, or one of the runs has not been evaluated.
    """
    from lvjobs.report.study_tables import study_tables

    runs = [run.name for run in find_runs(study, runs)]
    done = done_evaluations(study)
    subjects = {each.subject for each in done}
    if missing := [name for name in runs if name not in subjects]:
        raise UsageError(f"{missing[0]} has not been evaluated; type: {remedies.EVALUATE(*study.where, runs=missing)}")
    tables = study_tables([each for each in done if not runs or each.is_zero_shot or each.subject in runs])
    if not tables:
        command = remedies.EVALUATE(*study.where, runs="RUN")
        raise UsageError(f"nothing in this study has been evaluated yet; type: {command}")
    if as_json:
        print_json({"schema": 1, "tables": [made.to_dict() for made in tables]})
        return
    click.echo("\n\n".join(made.render(style) for made in tables for style in ("github", "latex_booktabs")))


def _trial(options: dict[str, Any]) -> Trial:
    own = {key: options.pop(key) for key in ("series", "split", "batch", "likelihood")}
    return Trial(**own, **sampling_of(options))


def _evaluation_of(subject: Subject, trial: Trial) -> RunConfig:
    """The evaluation of a model on series that it has not seen, in the format it was trained in."""
    systems = held_out(subject.training, trial, trained=bool(subject.adapter))
    return evaluation(subject.training, trial, systems, subject.adapter, subject.prompt)


def evaluation_to_come(study: Study, name: str, config: RunConfig) -> tuple[RunConfig, str]:
    """The evaluation, with its name, of a run that is not trained yet: all held-out series, greedily."""
    training = TrainingConfig.model_validate(config.params)
    made = _evaluation_of(Subject(name, training, adapter_of(study.layout.run(name)), training.format), Trial())
    return made, evaluation_name(name, made)
