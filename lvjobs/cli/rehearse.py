"""`lvjobs rehearse`."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lvjobs.api.rehearse import rehearse as conduct
from lvjobs.cli.common import json_option, print_found, study_option
from lvjobs.cli.program import WithProgram, program_options, typed_settings
from lvjobs.cli.settings import overrides
from lvjobs.rehearsal.conduct import RehearsalReport
from lvjobs.rehearsal.verdict import FinalMetric
from lvjobs.report.numbers import counted
from lvjobs.report.outputs import finite
from lvjobs.study.config import load_study

INTERRUPTED = 130
FAILED = 1
"""The exit code if the run does not resume, if its result differs, or if nothing was tested."""


@click.command(cls=WithProgram, options_metavar="[OPTIONS]")
@click.argument("task", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings of TASK, as TOML.")
@study_option
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any key of study.toml's [train].")
@program_options
@click.option("--steps", type=int, help="Steps of the run; at most --rehearsed-steps are trained.")
@click.option(
    "--checkpoint-every", type=int, help="Steps between checkpoints, if the command has no placeholder for them."
)
@click.option(
    "--minutes",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="How long to inject failures, in minutes, after the undisturbed run.",
)
@click.option("--seed", "chance", default=0, show_default=True, help="Seed of the injected faults and their times.")
@click.option("--rehearsed-steps", default=60, show_default=True, type=click.IntRange(min=6), help="Steps of the run.")
@click.option(
    "--tolerance",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Accepted relative difference of the last loss; 0: results must be equal.",
)
@click.option(
    "--lab/--local",
    "on_lab",
    default=None,
    help="Run on a private Slurm cluster, or as local processes.  [default: as the study]",
)
@json_option
def rehearse(
    task: str | None,
    file: Path | None,
    root: Path,
    pairs: tuple[str, ...],
    minutes: float,
    chance: int,
    rehearsed_steps: int,
    tolerance: float,
    on_lab: bool | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a shortened run here, kill it again and again, and compare its result with that of an undisturbed run.

    \b
    lvjobs rehearse                            [train] of study.toml
    lvjobs rehearse -- python train.py ...     a program and its arguments (docs/programs.md)
    lvjobs rehearse package.module:function    a function of your own (docs/tasks.md)

    The exit code is 1 if the results differ, if the run does not resume, or if no fault was injected. Nothing counts
    against the budget, and the study's runs are not touched.
    """  # noqa: D301 - click reads the backspace, so the docstring cannot be raw

    def say(text: str) -> None:
        if not as_json:
            click.echo(text)

    study = load_study(root)
    given = overrides(options | typed_settings(options), pairs, None)
    try:
        report = conduct(
            study,
            given,
            task,
            file,
            minutes=minutes,
            seed=chance,
            steps=rehearsed_steps,
            tolerance=tolerance,
            on_lab=on_lab,
            say=say,
        )
    except KeyboardInterrupt:
        click.echo("lvjobs: interrupted; the rehearsal's jobs were cancelled", err=True)
        sys.exit(INTERRUPTED)
    print_found(finite(_as_dict(report)), _lines(report, study.layout.internal / "rehearsal"), as_json=as_json)
    sys.exit(0 if report.holds else FAILED)


def _lines(report: RehearsalReport, place: Path) -> Iterator[str]:
    judgement = report.judgement
    met = ", ".join(f"{what} {count}" for what, count in sorted(report.met.items())) or "none"
    yield f"faults: {met}; {counted(report.attempts, 'attempts')}, {counted(report.repeated, 'repeated steps')}"
    if report.untested:
        yield f"not tested: {', '.join(report.untested)}: --minutes was over"
    if report.dropped:
        yield f"not tested: {', '.join(report.dropped)}: tried twice, but the moment never came"
    for path in report.outside:
        yield f"note: the program writes to {path}, where lvjobs cannot stop an old attempt from writing"
    for text in judgement.notes:
        yield f"note: {text}"
    yield f"verdict: {_verdict(report)}"
    for difference in judgement.differences:
        yield f"  {difference}"
    if judgement.since:
        attempt, step = judgement.since
        begun = f"which resumed from step {step}" if step else "which began at step 0"
        yield f"  the first difference is in attempt {attempt} of round {report.round}, {begun}"
    if judgement.metric and judgement.differences:
        yield f"  {_metric(judgement.metric)}"
    for text in report.breaches:
        yield f"verdict: not isolated: {text}"
    if not report.holds:
        compared = f"alone and disturbed-{report.round}" if report.round else "alone"
        yield f"The runs are in {place}: compare {compared}. docs/rehearsal.md lists the usual causes."


def _verdict(report: RehearsalReport) -> str:
    judgement, metric = report.judgement, report.judgement.metric
    if judgement.verdict == "bitwise":
        metrics = f"{counted(judgement.equal_metrics, 'metrics')} at all steps" if judgement.equal_metrics else ""
        files = f"{counted(judgement.equal_files, 'files')} of the result" if judgement.equal_files else ""
        equal = " and ".join(filter(None, (metrics, files)))
        kinds = len(report.met) + len(report.untested) + len(report.dropped)
        return f"resumed bit for bit after {len(report.met)} of {kinds} kinds of faults: equal in {equal}"
    if judgement.verdict == "within_tolerance":
        assert metric is not None
        return f"within tolerance: the last {metric.name} is {metric.apart:.2%} from that of the undisturbed run"
    if judgement.verdict == "differs":
        if judgement.is_deterministic is False:
            return "differs, but so do two undisturbed runs: the run is not deterministic"
        if all(each.step is None for each in judgement.differences):
            return "differs: all metrics are equal to those of the undisturbed run, but these files are not"
        return "differs: two undisturbed runs are equal, so the run does not restore its whole state"
    if judgement.verdict == "does_not_resume":
        return f"does not resume: {judgement.reason}"
    return f"nothing was tested: {judgement.reason}"


def _metric(metric: FinalMetric) -> str:
    again = f", of two undisturbed runs {metric.own_apart:.2%}" if metric.own_apart else ""
    return (
        f"last {metric.name}: {metric.alone:g} undisturbed, {metric.disturbed:g} disturbed, {metric.apart:.2%} apart"
        f"{again}"
    )


def _as_dict(report: RehearsalReport) -> dict[str, Any]:
    judgement, run = report.judgement, report.run
    metric = judgement.metric
    return {
        "schema": 1,
        "holds": report.holds,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "met": dict(report.met),
        "untested": list(report.untested),
        "dropped": list(report.dropped),
        "round": report.round,
        "attempts": report.attempts,
        "state": run["state"],
        "steps": run["steps"],
        "replayed_steps": report.repeated,
        "differences": [asdict(each) for each in judgement.differences],
        "since": dict(zip(("attempt", "resumed_from"), judgement.since, strict=True)) if judgement.since else None,
        "is_deterministic": judgement.is_deterministic,
        "metric": {**asdict(metric), "apart": metric.apart} if metric else None,
        "equal_metrics": judgement.equal_metrics,
        "equal_files": judgement.equal_files,
        "notes": list(judgement.notes),
        "breaches": list(report.breaches),
        "outside": list(report.outside),
    }
