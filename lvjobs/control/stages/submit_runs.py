"""The entry of new runs into a study: declared, checked against the cluster, submitted; a refusal leaves no trace."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from lvjobs import remedies
from lvjobs.cluster.protocol import ClusterError
from lvjobs.control.backends import keep_profile, used_profile
from lvjobs.control.budget.accounts import Amount
from lvjobs.control.budget.archive import books_of
from lvjobs.control.budget.cost import allowance, replay_of_an_interval, work_ahead
from lvjobs.control.session import Session
from lvjobs.control.stages.requests import UNDECIDED, check_earlier, check_later, is_same, revive
from lvjobs.control.submission.declare import (
    Declaration,
    RunRequest,
    check_profile_resources,
    declare,
    file_of,
    is_run_of,
)
from lvjobs.control.submission.dispatch import Queue, prepare_submission, send_in_turn
from lvjobs.control.submission.gpu_requests import check_gpu_requests
from lvjobs.control.submission.send import Shortfall, SubmitResult, reservations_for
from lvjobs.control.submission.submission_files import is_claimed, with_directory
from lvjobs.control.submission.time_limits import is_automatic
from lvjobs.errors import UsageError
from lvjobs.files import is_foreign
from lvjobs.ledger.records import RunRecord, StageRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile, with_values
from lvjobs.study.tables import check_time_unit
from lvjobs.study.words import RunState, StageState, SubmitOutcome
from lvjobs.sweep.pruning import dearest
from lvjobs.tasks.code_copies import find_tasks, snapshot_code
from lvjobs.tasks.origin import origin_of
from lvjobs.tasks.registry import check_costs, program_files


class OverBudget(UsageError):
    """The error for runs that the budget does not allow.

    `where` is `StudyContext.where`, for commands at the prompt. A pass gives none, because the ledger keeps its errors.
    """

    def __init__(self, shortfall: Shortfall, where: Sequence[str] = ()) -> None:
        self.shortfall = shortfall
        budget = remedies.BUDGET(*where)
        if shortfall.is_of_flops:
            more, less = remedies.BUDGET_SET(*where), "add --fit to see what fits"
        else:
            more, less = remedies.BUDGET_SET_HOURS(*where), "give a shorter --time-limit, or fewer runs"
        super().__init__(f"{shortfall}; nothing was submitted: see {budget}, raise the limit ({more}), or {less}")


@dataclass(frozen=True)
class Entered:
    """The result of `enter`. `sent` is None if every run existed already; `note` is a warning for the user."""

    existing: Sequence[RunRecord]
    new: Sequence[RunRecord]
    sent: SubmitResult | None
    note: str = ""


def _shortfall_beyond_the_rung(
    transaction: Transaction, wanted: RunRequest, new: Sequence[RunRecord], session: Session
) -> Shortfall | None:
    """Return what a stage with halving would lack later, if the dearest runs went on from its rungs; None for nothing.

    Each run reserves the FLOPs to its rung, and those that continue reserve the rest when they do.
    """
    rule = wanted.sweep.stage.prune if wanted.sweep else None
    if wanted.sweep is None or rule is None or rule.rule != "halving":
        return None
    runs = [run for run in new if run.stage == wanted.stage]
    followers = {run.after: run for run in new if run.after}

    def price(place: int, stop_at: int) -> int:
        run = runs[place]
        flops = session.terms.price(run, work_ahead(run.config, 0, stop_at))
        if stop_at == 0:
            flops += session.terms.price(run, replay_of_an_interval(run.config, 0))
            if (follower := followers.get(run.id)) is not None:
                flops += session.terms.price(follower, allowance(follower, WorkCounts(), 0, 0))
        return flops

    seeds = wanted.sweep.stage.repeats
    needed = Amount(dearest(rule, [run.steps for run in runs], price, seeds))
    room = books_of(transaction, session.terms, session.study.layout, session.clock()).room
    return None if needed.fits(room) else Shortfall(needed, room, session.terms)


def script(session: Session, wanted: RunRequest) -> tuple[str, str]:
    """Return the exact batch script that `enter` would submit, and its computed time limit in words. Write nothing.

    The words are empty if no time limit is computed.

    Raises:
        UsageError: The names, settings or resources do not fit, or the profile gives no script.
    """
    _check_resources(wanted)
    cluster = session.cluster(wanted.profile)
    declared = session.ledger.call(declare, wanted)
    check_costs([run.configuration for run in declared.new], session.study.config.budget)
    runs = [replace(run, code=run.code or "0" * 16) for run in declared.new or declared.existing]
    # An evaluation comes later, in a job of its own. Runs of another stage are there already.
    first = [run for run in runs if run.stage == wanted.stage] or runs
    prepared = prepare_submission(session.study, Queue(session.ledger, session.clock()), cluster, first)
    return cluster.script(replace(prepared.first.requests[0], token="0" * 12)), prepared.timing.words


def _check_resources(wanted: RunRequest) -> None:
    """Refuse resources that the profile does not use, and a time limit without a unit (UsageError)."""
    check_time_unit(wanted.resources.time_limit, "time_limit =")
    check_profile_resources(wanted.profile, wanted.resources)


def enter(session: Session, wanted: RunRequest) -> Entered:
    """Declare the runs, and submit the new ones as one job or array.

    Raises:
        UsageError: The request can never be submitted, because of its settings or by the scheduler's refusal. Nothing
            was made.
        OverBudget: The budget has no room for the new runs. Nothing was made.
    """
    _check_resources(wanted)
    study = session.study
    file = file_of(study, wanted.stage) if wanted.file is None else wanted.file
    wanted = replace(wanted, file=file, profile_copy=keep_profile(study.layout, wanted.profile))
    cluster = session.cluster(used_profile(study.layout, wanted.profile, wanted.profile_copy))
    find_tasks(study.root, [wanted.configs[0].task])
    with session.ledger.transaction() as transaction:
        former = _check_stage(transaction, wanted)
        declared = declare(transaction, wanted)
        _, shortfall = reservations_for(transaction, declared.new, session.terms, study.layout, session.clock())
        shortfall = shortfall or _shortfall_beyond_the_rung(transaction, wanted, declared.new, session)
        completed = {run.id for run in transaction.runs() if run.state is RunState.COMPLETED}
    check_costs([run.configuration for run in declared.new], study.config.budget)
    if declared.new and cluster.absent:
        raise UsageError(
            f"{cluster.absent}; nothing was submitted: run lvjobs on a login node of the cluster, or use --profile "
            "local"
        )
    is_computed = any(is_automatic(run.resources) for run in declared.new)  # the time limit: `send` checks again
    if shortfall is not None and (shortfall.is_of_flops or not is_computed):
        raise OverBudget(shortfall)
    if not declared.new:
        session.ledger.call(_record, wanted, declared)
        revive(session, wanted.stage)
        return Entered(declared.existing, (), None)
    first = wanted.configs[0]
    program = program_files(first, study.root)
    origin = origin_of(first, program, declared.new[0].resources, study.root)
    code = snapshot_code(study.layout.code, first.task, program, origin)
    new = [replace(run, code=code.name) for run in declared.new]
    ready = [run for run in new if not run.after or run.after in completed]
    later = [run for run in new if run.after and run.after not in completed]
    queue = Queue(session.ledger, session.clock())
    prepared = prepare_submission(study, queue, cluster, ready or later)
    job, limit = prepared.first, session.terms.gpu_seconds
    check_gpu_requests(cluster, job.requests[0], job.runs[0], limit, study.layout)
    with suppress(ClusterError):  # sbatch will fail in the same way, and `send` handles its errors
        cluster.check(prepared.first.requests[0])
    for run in with_directory(study, new):
        _refuse_anothers(study.layout.run(run.name), run)
    record = partial(_record, wanted=wanted, declared=replace(declared, new=new))
    if not ready:
        session.ledger.call(record)
        sent = _plan(session, later)
    else:
        # one array; a pass submits the rest as soon as it may follow
        sent = next(send_in_turn(study, queue, cluster, prepared, session.terms, session.clock(), later, record))
    if sent.shortfall is not None:  # of the check in the submission's own transaction, which declared nothing
        raise OverBudget(sent.shortfall)
    revive(session, wanted.stage)
    if not sent.runs:
        _plan(session, new)
    if sent.outcome is SubmitOutcome.REFUSED:
        _discard(session, new, former, prepared.first.requests[0].log_directory)
        raise UsageError(
            f"the scheduler refused the job: {sent.said}; nothing was submitted: change [resources] in study.toml, or "
            "give --partition, --account, --qos or --time-limit"
        )
    return Entered(declared.existing, new, sent, code.note)


def _check_stage(transaction: Transaction, wanted: RunRequest) -> StageRecord | None:
    """Return the record of the requested stage; None if the runs are of no stage.

    Raises:
        UsageError: The stage would wait forever, or would change although a stage built on it has begun.
    """
    if wanted.sweep is None:
        return None
    records = {record.name: record for record in transaction.stages()}
    stage, former = wanted.sweep.stage, records[wanted.stage]
    check_earlier(stage, records, set())
    if not is_same(former, wanted.sweep):
        check_later(stage, records.values())
    return former


def _record(transaction: Transaction, wanted: RunRequest, declared: Declaration) -> None:
    """Add the new runs to the ledger, and all runs to their stage.

    The stage is running from then on, unless it is decided and no run is new.
    """
    transaction.add_runs(declared.new)
    if wanted.sweep is None:
        return
    transaction.add_cells(wanted.stage, declared.ids)
    record = next(each for each in transaction.stages() if each.name == wanted.stage)
    if declared.new or record.state is not StageState.COMPLETED or not is_same(record, wanted.sweep):
        changes = {**UNDECIDED, "definition": wanted.sweep.definition, "request": wanted.sweep.request}
        transaction.update_stage(wanted.stage, state=StageState.RUNNING, **changes)


def _discard(session: Session, runs: Sequence[RunRecord], former: StageRecord | None, logs: Path) -> None:
    """Delete runs whose first submission was refused. Restore their stage's `former` record."""
    with session.ledger.transaction() as transaction:
        for run in runs:
            transaction.delete_run(run.id)
        if former is not None:
            transaction.update_stage(**{each.name: getattr(former, each.name) for each in fields(former)})
    with suppress(OSError):  # other jobs' logs may be there
        logs.rmdir()


def _plan(session: Session, later: Sequence[RunRecord]) -> SubmitResult:
    """Reserve the FLOPs of runs that cannot be submitted yet; a pass submits them in their turn."""
    with session.ledger.transaction() as transaction:
        wanted, _ = reservations_for(transaction, later, session.terms, session.study.layout, session.clock())
        transaction.reserve({run.id: wanted[run.id] for run in later if run.id in wanted})
    return SubmitResult(later, "", SubmitOutcome.PLANNED, said="they depend on unfinished runs")


def _refuse_anothers(files: RunLayout, run: RunRecord) -> None:
    """Refuse a run directory that belongs to another user or to another run.

    A directory that a worker has claimed, but this ledger does not know, may only be used by the same run.
    """
    if is_foreign(files.root):
        raise UsageError(
            f"{files.root} belongs to another user, who could change the run; nothing was submitted: "
            "choose another --name, or another --study"
        )
    if not is_claimed(files):
        return
    try:
        owner = RunFile.read(files.config)
        is_own = is_run_of(run, with_values(owner.config.model_dump(mode="json"), owner.declared))
    except (OSError, ValueError):
        is_own = False
    if not is_own:
        raise UsageError(
            f"{files.root} holds the checkpoints of another run, which this study's runs.db does not know; move it "
            "away, or choose another --name"
        )
