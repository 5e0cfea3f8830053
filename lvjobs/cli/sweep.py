"""`lvjobs sweep`: stages that follow one another by themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvjobs import remedies
from lvjobs.cli.common import (
    READ_WAIT_SECONDS,
    WRITE_WAIT_SECONDS,
    because_option,
    existing_study,
    json_option,
    print_json,
    study_option,
    tell,
)
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.settings import (
    fit_options,
    located,
    pinned,
    profile_option,
    request,
    resource_options,
    train_options,
)
from lvjobs.errors import UsageError
from lvjobs.study.config import Study, load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage

if TYPE_CHECKING:
    from lvjobs.sweep.request import Request

ALL = "all"


class _Sweep(click.Group):
    """Commands, and any other word is a stage."""

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
    """Train and evaluate the stages of study.toml: STAGE, or all of them, each when what it comes after is decided.

    A stage's new runs go out as one array; runs that exist are not trained again. What follows goes ahead by itself:
    no command has to be typed again. Options: lvjobs sweep STAGE --help.
    """


@click.command(name="sweep")
@click.argument("name", metavar="{STAGE|all}")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--winner", metavar="RUN", help="Make RUN the stage's winner, whatever its rule says.")
@because_option("because", "Why; needed with --winner, and kept with the results.")
@click.option("--without-held", is_flag=True, help="Decide the stage without its held runs.")
@click.option("--quorum", type=click.IntRange(min=1), help="With --without-held: once so many candidates are done.")
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@fit_options
@click.option("--wait", is_flag=True, help="Keep making passes until every run has ended or is held.")
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
    """Train and evaluate STAGE (a [[stage]] of study.toml), or all stages, each when its turn comes."""
    study = load_study(root)
    chosen = list(study.config.stage) if name == ALL else [study.config.stage_named(name)]
    if not chosen:
        raise UsageError("study.toml declares no [[stage]], so there is nothing to sweep; add one")
    _check_options(winner, because, quorum, without_held=without_held)
    if fit and name == ALL:
        every = remedies.SWEEP_PLAN(*study.where)
        raise UsageError(f"--fit is about the runs of one stage; for all of them, see: {every}")
    if winner or without_held:
        if name == ALL:
            raise UsageError("--winner and --without-held are about one stage: name it")
        if pairs or profile or fit or dry_run or any(value not in (None, (), False) for value in options.values()):
            raise UsageError(
                "--winner and --without-held decide about runs that are there, and no other option goes with them; "
                "leave the others out"
            )
        _decide_by_hand(study, name, winner, because, quorum, as_json=as_json)
        return
    asked = _with_systems(study, chosen, request(study, options, pairs, profile, pinned))
    ready = _ready(study, chosen, asked)
    manner = Manner(dry_run, wait, as_json, fit, yes, WRITE_WAIT_SECONDS)
    if fit and chosen[0].space:
        raise UsageError(f"--fit is about runs that are known, and {name} searches; ask for fewer trials, or steps")
    if ready is None and fit:
        costs = remedies.SWEEP_PLAN(*study.where)
        raise UsageError(f"--fit is about runs that may begin, and {name} comes after others; see: {costs}")
    if ready is not None:
        _enter(study, chosen[0], asked, ready, manner)
    elif dry_run:
        _print_plan(study, chosen, asked, as_json=as_json)
    else:
        _ask(study, chosen, asked, manner)


def _check_options(winner: str | None, because: str, quorum: int | None, *, without_held: bool) -> None:
    """Refuse what would be passed over without a word."""
    if winner and without_held:
        raise UsageError("--winner and --without-held are two ways to decide a stage; give one of them")
    if because and not winner:
        raise UsageError("--because says why --winner won; give both")
    if quorum is not None and not without_held:
        raise UsageError("--quorum goes with --without-held; give both, or, for good, write quorum = ... in study.toml")


def _ready(study: Study, chosen: list[Stage], asked: "Request") -> list[RunConfig] | None:
    """The runs of one stage whose ground is known; None where stages have to wait for others, or for a sampler."""
    from lvjobs.control.planning.foresee import look

    if len(chosen) > 1 or chosen[0].evaluates or chosen[0].space:
        return None
    (one,) = chosen
    seen = look(study, READ_WAIT_SECONDS)
    if not set(one.awaited) <= set(seen.winners):
        return None
    ground = RunConfig.model_validate(seen.winners[one.origin].config) if one.origin else None
    return asked.configs(one, study.config.stage, ground)


def _enter(study: Study, one: Stage, asked: "Request", configs: list[RunConfig], manner: Manner) -> None:
    from lvjobs.control.stages.requests import asked_for
    from lvjobs.control.submission.declare import SweepOf, Wanted, default_name

    def name_of(config: RunConfig) -> str:
        return default_name(config, one.name, one.varied)

    names = [name_of(config) for config in configs]
    sweep_of = SweepOf(**asked_for(one, asked))
    file = asked.file_of(one)
    wanted = Wanted(configs, names, one.name, asked.profile, asked.resources, sweep=sweep_of, file=file)
    enter_runs(study, wanted, name_of, manner)


def _ask(study: Study, chosen: list[Stage], asked: "Request", manner: Manner) -> None:
    """Leave it to the passes; this command makes the first."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.requests import ask

    _check_models(study, chosen, asked)
    _check_budget(study, chosen, asked)
    with open_session(study, wait=manner.patience) as session:
        told = ask(session, chosen, asked)
        summary = session.make_pass()
    summary["did"] = told + summary["did"]
    if not manner.as_json:
        tell(summary)
    if manner.wait:
        from lvjobs.cli.watch import watch_until

        summary = watch_until(study, None, quiet=manner.as_json)
    if manner.as_json:
        print_json(summary)
        return
    from lvjobs.report.stages import print_stages

    print_stages(summary["stages"])


def _check_models(study: Study, chosen: list[Stage], asked: "Request") -> None:
    """Refuse models that no job could load, before anything is written."""
    from lvjobs.control.stages.expand import zero_shot
    from lvjobs.forecasting.hub import check_runs

    every = study.config.stage
    trained = [config for one in chosen if not one.evaluates for config in asked.configs(one, every)]
    check_runs([*trained, *(config for one in chosen for config in zero_shot(one, every, asked))])


def _check_budget(study: Study, chosen: list[Stage], asked: "Request") -> None:
    """Refuse all of it where the budget has no room for all, before the first run.

    Raises:
        UsageError: names the stage that is to blame.
    """
    from lvjobs.report.estimate import refusal

    if words := refusal(_foreseen(study, chosen, asked), study.where):
        costs = remedies.SWEEP_PLAN(*study.where)
        raise UsageError(f"{words}; nothing was submitted; before you change study.toml or the limit, see: {costs}")


def _foreseen(study: Study, chosen: list[Stage], asked: "Request") -> dict[str, Any]:
    from lvjobs.control.planning.foresee import foresee, look, unfolded

    seen = look(study, READ_WAIT_SECONDS)
    if seen.problem:
        click.echo(f"note: {seen.problem}", err=True)
    names = {each.name for each in chosen}
    configs = {name: found for name, found in unfolded(study, asked, seen).items() if name in names}
    return foresee(study, configs, seen, asked.resources, asked.profile)


def _with_systems(study: Study, chosen: list[Stage], asked: "Request") -> "Request":
    """The request, with the held-out systems that evaluations forecast.

    Raises:
        UsageError: a stage of evaluations where study.toml wants none.
    """
    from lvjobs.cli.subjects import held_out
    from lvjobs.control.stages.evaluations import Trial
    from lvjobs.study.training import TrainingConfig

    evaluating = [each for each in chosen if each.evaluates]
    if not evaluating:
        return asked
    series = study.config.evaluation.series
    if not series:
        raise UsageError(
            f"{evaluating[0].name} evaluates, and study.toml's [evaluation] has series = 0: ask for some, or take the "
            "stage out"
        )
    training = TrainingConfig.model_validate(asked.configs(evaluating[0], study.config.stage)[0].params)
    return asked.model_copy(update={"systems": held_out(training, Trial(series=series), trained=True)})


def _decide_by_hand(
    study: Study, name: str, winner: str | None, because: str, quorum: int | None, *, as_json: bool
) -> None:
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.requests import choose, go_on_without_held

    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        told = choose(session, name, winner, because) if winner else go_on_without_held(session, name, quorum)
        summary = session.make_pass()
    summary["did"] = told + summary["did"]
    if as_json:
        print_json(summary)
    else:
        tell(summary)


@sweep.command()
@click.argument("name", metavar="[STAGE]", required=False)
@study_option
@profile_option
@train_options
@resource_options
@json_option
def plan(
    name: str | None, root: Path, profile: str | None, pairs: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Show what the stages are made of, what they cost and reuse, and what the budget allows. Submits nothing."""
    study = load_study(root)
    chosen = list(study.config.stage) if name in (None, ALL) else [study.config.stage_named(str(name))]
    _print_plan(study, chosen, request(study, options, pairs, profile, located), as_json=as_json)


def _print_plan(study: Study, chosen: list[Stage], asked: "Request", *, as_json: bool) -> None:
    from lvjobs.report.estimate import print_estimate
    from lvjobs.report.stages import plan_lines

    foreseen = _foreseen(study, chosen, asked)
    if as_json:
        declared = [each.model_dump(mode="json", by_alias=True) for each in chosen]
        print_json({"schema": 1, "declared": declared, **foreseen})
        return
    for line in plan_lines(chosen, study.config.stage, foreseen["stages"]):
        click.echo(line)
    click.echo()
    if any(each.evaluate for each in chosen) and all(each.evaluates for each in chosen):
        every = remedies.SWEEP_PLAN(*study.where)
        click.echo(f"Evaluations of runs are counted with the stages that train these; see: {every}\n")
    print_estimate(foreseen, where=study.where)


@sweep.command()
@click.argument("name", metavar="STAGE")
@study_option
@json_option
def show(name: str, root: Path, as_json: bool) -> None:
    """Show a stage's runs, the best first, and why the winner won."""
    from lvjobs.cli.evaluate import show_tables
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.comparison import standing
    from lvjobs.report.stages import print_standing

    study = existing_study(root)
    with open_session(study, wait=READ_WAIT_SECONDS) as session:
        summary = session.make_pass()
        evaluates = any(each.name == name and each.evaluates for each in study.config.stage)
        found = None if evaluates else standing(session, name)
    if found is None:
        show_tables(study, (), as_json=as_json)
    elif as_json:
        print_json({"schema": 1, **found})
    else:
        tell(summary)
        print_standing(found, study.where)


@sweep.command()
@click.argument("name", metavar="STAGE")
@study_option
def retry(name: str, root: Path) -> None:
    """Take up all held runs of a stage again, with the code as it is now."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.requests import retry_held

    with open_session(existing_study(root), wait=WRITE_WAIT_SECONDS) as session:
        told = retry_held(session, name)
        summary = session.make_pass()
    tell({**summary, "did": told + summary["did"]})


@sweep.command()
@click.argument("name", metavar="{STAGE|all}")
@study_option
def stop(name: str, root: Path) -> None:
    """Ask no more for a stage, or for all; pause what of it is open. Asked for again, it goes on from there."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.requests import stop as stop_stages

    study = existing_study(root)
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        told = stop_stages(session, name)
        summary = session.make_pass()
    tell({**summary, "did": told + summary["did"]})
