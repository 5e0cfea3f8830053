"""`lvjobs sweep`: stages, each submitted by passes after the stages that it waits for."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.score_tables import evaluation_tables
from lvjobs.api.study import Study
from lvjobs.api.submit import PreparedRuns
from lvjobs.api.sweep import ALL, PreparedStages, prepare_stages, stages_named, standing
from lvjobs.cli.common import (
    because_option,
    json_option,
    print_json,
    print_problem,
    print_update,
    study_option,
    tell,
)
from lvjobs.cli.evaluate import show_tables
from lvjobs.cli.help import Command, Group
from lvjobs.cli.plan import print_found_plan, sweep_plan
from lvjobs.cli.settings import fit_options, overrides, profile_option, resource_options, train_options
from lvjobs.cli.submit import SubmitOptions, enter_runs
from lvjobs.cli.updates import watch_until
from lvjobs.errors import UsageError
from lvjobs.report.terminal.stage_lines import print_stages, print_standing


class _Sweep(Group):
    """A group that takes any word that is not one of its commands as a stage's name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "", stage, args


@click.group(
    cls=_Sweep,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="{STAGE|all} [OPTIONS]  (or a COMMAND, see below)",
)
def sweep() -> None:
    """Submit STAGE of study.toml, or all stages, in dependency order.

    The new runs of a stage are submitted as one array; existing runs are not trained again. Dependent stages follow
    automatically. Options: lvjobs sweep STAGE --help.
    """


@click.command(cls=Command, name="sweep")
@click.argument("name", metavar="{STAGE|all}")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--winner", metavar="RUN", help="Make RUN the stage's winner, instead of its rule.")
@because_option("because", "Reason for --winner, kept with the results.")
@click.option("--without-held", is_flag=True, help="Decide the stage without its held runs.")
@click.option(
    "--quorum", type=click.IntRange(min=1), help="With --without-held: number of finished candidates that is enough."
)
@click.option("--dry-run", is_flag=True, help="Print the batch script and the cost; submit nothing.")
@fit_options
@click.option("--wait", is_flag=True, help="Wait until every run is finished or held.")
@json_option
def stage(
    name: str,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    winner: str | None,
    because: str,
    without_held: bool,
    quorum: int | None,
    dry_run: bool,
    fit: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit STAGE (a [[stage]] of study.toml), or all stages, in dependency order."""
    _check_options(winner, because, quorum, without_held=without_held)
    if winner or without_held:
        if name == ALL:
            raise UsageError("--winner and --without-held apply to one stage: name it")
        if pairs or profile or fit or dry_run or any(value not in (None, (), False) for value in options.values()):
            raise UsageError(
                "--winner and --without-held decide a stage and cannot be combined with other options; "
                "leave the others out"
            )
        study = Study.open(root)
        stages_named(study, name)
        decided = study.choose_winner(name, winner, because) if winner else study.decide_without_held(name, quorum)
        print_update(decided, as_json=as_json)
        return
    manner = SubmitOptions(dry_run, wait, as_json, fit, yes)
    prepared = prepare_stages(Study.open(root), name, overrides(options, pairs, profile), fit=fit)
    if isinstance(prepared, PreparedRuns):
        changed = f"study.toml still declares stage {name} as before; change it there too"
        enter_runs(prepared, manner, changed)
    elif dry_run:
        prepared.check_models()
        print_found_plan(prepared.study, prepared.chosen, prepared.plan(), as_json)
    else:
        _ask(prepared, manner)


def _check_options(winner: str | None, because: str, quorum: int | None, *, without_held: bool) -> None:
    """Refuse combinations of options in which one would be ignored silently."""
    if winner and without_held:
        raise UsageError("--winner and --without-held both decide a stage; give one of them")
    if because and not winner:
        raise UsageError("--because is the reason for --winner; give both")
    if quorum is not None and not without_held:
        raise UsageError("--quorum needs --without-held; give both, or set quorum = ... in study.toml")


def _ask(prepared: PreparedStages, manner: SubmitOptions) -> None:
    """Request the stages, and print the first pass's changes."""
    plan = prepared.plan()
    print_problem(plan.problem)
    status = prepared.submit(plan).status
    if not manner.as_json:
        tell(status)
    if manner.wait:
        status = watch_until(prepared.study, None, quiet=manner.as_json)
    if manner.as_json:
        print_json(status.summary)
    else:
        print_stages(status.stages)


sweep.add_command(sweep_plan)


@sweep.command()
@click.argument("name", metavar="STAGE")
@study_option
@json_option
def show(name: str, root: Path, as_json: bool) -> None:
    """Show a stage's runs, best first, and why the winner was chosen."""
    study = Study.open(root)
    status, found = standing(study, name)
    if found is None:
        show_tables(evaluation_tables(study), as_json=as_json)
    elif as_json:
        print_json({"schema": 1, **found})
    else:
        tell(status)
        print_standing(found, study.where)


@sweep.command()
@click.argument("name", metavar="STAGE")
@study_option
def retry(name: str, root: Path) -> None:
    """Resume all held runs of a stage with the current code."""
    tell(Study.open(root).retry(name))


@sweep.command()
@click.argument("name", metavar="{STAGE|all}")
@study_option
def stop(name: str, root: Path) -> None:
    """Pause a stage or all stages; run the sweep again to continue."""
    tell(Study.open(root).stop(name))
