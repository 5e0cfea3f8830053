"""How runs enter from the command line: dry run, submission, what fits, waiting; shared by `submit` and `sweep`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from lvjobs import remedies
from lvjobs.cli.common import print_json, tell
from lvjobs.control.submission.declare import Wanted
from lvjobs.errors import UsageError
from lvjobs.study.config import Study
from lvjobs.study.run import RunConfig
from lvjobs.study.words import SubmitOutcome

if TYPE_CHECKING:
    from lvjobs.control.planning.fit import Proposal
    from lvjobs.control.stages.submit_runs import Entered, OverBudget
    from lvjobs.control.submission.send import Sent
    from lvjobs.ledger.records import Run


@dataclass(frozen=True)
class Manner:
    """How a command was typed. `fit`: propose what fits where the budget refuses; `yes`: and do not ask."""

    dry_run: bool
    wait: bool
    as_json: bool
    fit: bool
    yes: bool
    patience: float
    """Seconds to wait for another process to end its pass."""


EvaluationFor = Callable[[str, RunConfig], tuple[RunConfig, str]]
"""The evaluation, with its name, of a run of that name and configuration."""


def enter_runs(
    study: Study,
    wanted: Wanted,
    name_of: Callable[[RunConfig], str],
    manner: Manner,
    evaluation_for: EvaluationFor | None = None,
) -> None:
    """Submit what is wanted (or print the script and the cost), say what came of it, and maybe see it through.

    `name_of` names a run whose configuration was changed so that it fits; `evaluation_for` gives it its evaluation.
    """
    if evaluation_for is not None:
        wanted = _with_evaluations(wanted, evaluation_for)
    from lvjobs.control.stages.submit_runs import OverBudget

    _check_models(study, wanted)
    if manner.dry_run:
        _dry_run(study, wanted, name_of, manner)
        return
    proposal = None
    try:
        entered, summary = _submit(study, wanted, manner)
    except OverBudget as error:
        if not manner.fit:
            raise OverBudget(error.shortfall, study.where) from None
        # The lease is free while a person thinks: others go on, and what they take meanwhile is theirs.
        proposal, wanted = _what_fits(study, wanted, name_of, error, manner)
        if evaluation_for is not None:
            wanted = _with_evaluations(wanted, evaluation_for)
        _agree(study, proposal, manner)
        entered, summary = _submit(study, wanted, manner)
        if any(stage.name == wanted.stage for stage in study.config.stage):
            note = f"note: study.toml still declares stage {wanted.stage} as it was asked for; change it there too"
            click.echo(note, err=manner.as_json)
    _tell_outcome(study, entered, summary, proposal, manner)


def _with_evaluations(wanted: Wanted, evaluation_for: EvaluationFor) -> Wanted:
    named = zip(wanted.names, wanted.configs, strict=True)
    return replace(wanted, evaluations=[evaluation_for(name, config) for name, config in named])


def _check_models(study: Study, wanted: Wanted) -> None:
    """Refuse models that no job could load, before anything is written; runs that exist already are left alone.

    Raises:
        UsageError: see `lvjobs.forecasting.hub.check_runs`.
    """
    from lvjobs.forecasting.hub import check_runs

    named = [*zip(wanted.configs, wanted.names, strict=True), *wanted.evaluations]
    check_runs(config for config, name in named if not study.layout.run(name).config.exists())


def _submit(study: Study, wanted: Wanted, manner: Manner) -> tuple["Entered", dict[str, Any]]:
    from lvjobs.control.loop import open_session
    from lvjobs.control.stages.submit_runs import enter

    with open_session(study, wait=manner.patience) as session:
        entered = enter(session, wanted)
        return entered, session.make_pass()


def _dry_run(study: Study, wanted: Wanted, name_of: Callable[[RunConfig], str], manner: Manner) -> None:
    """The script, and below it, as comments of it, what it would cost: together they are a script still."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.planning.foresee import foresee, read, what_fits
    from lvjobs.control.stages.submit_runs import script
    from lvjobs.report.estimate import estimate_lines, proposal_lines

    with open_session(study, wait=manner.patience) as session:
        drawn = script(session, wanted)
        with session.ledger.transaction() as transaction:
            seen = read(transaction)
        found = what_fits(session, wanted, name_of) if manner.fit else None
        study = session.study
    foreseen = foresee(study, {wanted.stage: wanted.configs}, seen, wanted.resources, wanted.profile)
    proposed = found[0].as_dict() if found and found[0].is_change else None
    if manner.as_json:
        shown = {"schema": 1, "outcome": "dry_run", "script": drawn.text, "estimate": foreseen, "fit": proposed}
        print_json({**shown, "computed": drawn.computed})
        return
    click.echo(drawn.text)
    computed = [drawn.computed] if drawn.computed else []
    lines = [*computed, "-- what it would cost; nothing was submitted --", *estimate_lines(foreseen)]
    for line in [*lines, *(proposal_lines(proposed) if proposed else ())]:
        click.echo(f"# {line}".rstrip())


def _what_fits(
    study: Study, wanted: Wanted, name_of: Callable[[RunConfig], str], error: "OverBudget", manner: Manner
) -> tuple["Proposal", Wanted]:
    from lvjobs.control.loop import open_session
    from lvjobs.control.planning.foresee import what_fits, what_helps

    with open_session(study, wait=manner.patience) as session:
        found = what_fits(session, wanted, name_of)
        relief = what_helps(session, wanted) if found is None else None
    if found is None:
        what, less = "each run", ["fewer runs"]
        if relief is not None:
            what = "the run, with its replay,"
            pairs = (("--checkpoint-every", relief.checkpoint_every), ("--steps", relief.steps))
            less = [f"{option} {most} or less" for option, most in pairs if most]
        change = f"ask for {', or '.join(less)}, or " if less else ""
        raise UsageError(
            f"{error.shortfall}; not even one checkpoint interval of {what} fits, and nothing was submitted: {change}"
            f"raise the limit: {remedies.BUDGET_SET(*study.where)}"
        )
    return found


def _agree(study: Study, proposal: "Proposal", manner: Manner) -> None:
    """Show what fits, and ask.

    Raises:
        UsageError: nobody is there to ask, or the answer is no. Nothing was submitted.
    """
    from lvjobs.report.estimate import proposal_lines

    for line in proposal_lines(proposal.as_dict()):
        click.echo(line, err=manner.as_json)
    if manner.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nothing was submitted, for nobody is there to ask: add --yes to submit what is proposed")
    if not click.confirm("Submit what is proposed?", err=manner.as_json):
        more = remedies.BUDGET_SET(*study.where)
        raise UsageError(f"nothing was submitted; ask for fewer runs or steps, or raise the limit: {more}")


def _tell_outcome(
    study: Study, entered: "Entered", summary: dict[str, Any], proposal: "Proposal | None", manner: Manner
) -> None:
    names = [run.name for run in (*entered.existing, *entered.new)]
    if not manner.as_json:
        for run in entered.existing:
            click.echo(f"{run.name}: exists already and is {run.state.value}; not submitted again")
        if entered.sent is not None:
            click.echo(_outcome(study, entered.new, entered.sent))
        tell(summary)
    if entered.note:
        click.echo(f"note: {entered.note}", err=True)
    if manner.wait:
        from lvjobs.cli.watch import watch_until

        summary = watch_until(study, names, quiet=manner.as_json)
    if manner.as_json:
        wanted = set(names)
        rows = [row for row in summary["runs"] if row["name"] in wanted]
        sent = entered.sent
        print_json(
            {
                "schema": summary["schema"],
                "outcome": sent.outcome.value if sent else "exists",
                "job_id": sent.job_id if sent else None,
                "token": sent.token if sent else None,
                "said": sent.said if sent else "",
                "submitted": len(sent.runs) if sent and sent.outcome is SubmitOutcome.SUBMITTED else 0,
                "fit": proposal.as_dict() if proposal else None,
                "runs": rows,
            }
        )


def _outcome(study: Study, new: Sequence["Run"], sent: "Sent") -> str:
    what = new[0].name if len(new) == 1 else f"{len(new)} runs"
    from lvjobs.control.submission.slots import is_packed

    if sent.outcome is SubmitOutcome.SUBMITTED:
        gone = {run.id for run in sent.runs}
        waiting = [run for run in new if not run.after and run.id not in gone]
        shared = ", which they share" if is_packed(sent.runs) else ""
        if waiting:
            then = "follow" if shared else "wait for room"
            return f"{what}: the first {len(sent.runs)} submitted as job {sent.job_id}{shared}; {len(waiting)} {then}"
        return f"{what}: submitted as job {sent.job_id}{shared}; follow with: {remedies.STATUS(*study.where)}"
    resume = remedies.RESUME(*study.where)
    if sent.outcome is SubmitOutcome.PLANNED:
        return f"{what}: planned ({sent.said}); the pass that sees that they are submits: {resume}"
    if sent.outcome is SubmitOutcome.LIMITED:
        return f"{what}: {sent.said}; the next pass that finds room submits: {resume}"
    if sent.outcome is SubmitOutcome.DEFERRED:
        return f"{what}: not submitted yet ({sent.said}); kept as planned, the next pass submits: {resume}"
    return (
        f"{what}: the scheduler did not say whether it took the job ({sent.said}); nothing is lost: it carries token "
        f"{sent.token}, and the next pass looks it up and adopts it or submits anew: {resume}"
    )
