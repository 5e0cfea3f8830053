"""The entry of new runs into a study: declared, checked against the cluster, submitted; a refusal leaves no trace."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace

from lvjobs import remedies
from lvjobs.cluster.protocol import Cluster, ClusterError
from lvjobs.control.backends import keep_profile, used_profile
from lvjobs.control.session import Session
from lvjobs.control.stages.requests import UNDECIDED, check_earlier, check_later, is_same, revive
from lvjobs.control.submission.current_settings import file_of
from lvjobs.control.submission.declare import Declaration, RunRequest, check_profile_resources, declare, is_run_of
from lvjobs.control.submission.dispatch import Queue, send_in_turn
from lvjobs.control.submission.run_directories import prepare
from lvjobs.control.submission.send import (
    Shortfall,
    SubmitResult,
    clear,
    discard,
    is_claimed,
    new_token,
    request_for,
    reservations_for,
)
from lvjobs.control.submission.time_limits import is_automatic
from lvjobs.control.submission.timing import Timing, timing_of
from lvjobs.errors import UsageError
from lvjobs.files import is_foreign
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile, with_values
from lvjobs.study.stages import Stage
from lvjobs.study.words import RunState, StageState, SubmitOutcome
from lvjobs.tasks.code_copies import find_tasks, snapshot_code


class OverBudget(UsageError):
    """The error for runs that the budget does not allow.

    `where` is `StudyContext.where`, for commands at the prompt. A pass gives none, because the ledger keeps its errors.
    """

    def __init__(self, shortfall: Shortfall, where: Sequence[str] = ()) -> None:
        self.shortfall = shortfall
        budget, more = remedies.BUDGET(*where), remedies.BUDGET_SET(*where)
        super().__init__(
            f"{shortfall}; nothing was submitted: see {budget}, raise the limit ({more}), or "
            "add --fit to see what would fit"
        )


@dataclass(frozen=True)
class Entered:
    """The result of `enter`. `sent` is None if every run existed already; `note` is a warning for the user."""

    existing: Sequence[RunRecord]
    new: Sequence[RunRecord]
    sent: SubmitResult | None
    note: str = ""


@dataclass(frozen=True)
class Script:
    """A batch script, and its computed time limit, in words (empty: none was computed)."""

    text: str
    computed: str


def script(session: Session, wanted: RunRequest) -> Script:
    """Return the exact batch script that `enter` would submit. Nothing is written.

    Raises:
        UsageError: The names, settings or resources do not fit, or the profile gives no script.
    """
    check_profile_resources(wanted.profile, wanted.resources)
    cluster = session.cluster(wanted.profile)
    with session.ledger.transaction() as transaction:
        declared = declare(transaction, wanted, code="0" * 16)
    runs = declared.new or declared.existing
    first = [run for run in runs if run.stage == wanted.stage]  # an evaluation comes later, in a job of its own
    timing = _timing(session, cluster, first)
    return Script(cluster.script(request_for(session.study, timing.applied(first), "0" * 12)), timing.words)


def _timing(session: Session, cluster: Cluster, runs: Sequence[RunRecord]) -> Timing:
    if not is_automatic(runs[0].resources):
        return Timing()
    queue = Queue(session.ledger, session.clock())
    limits = queue.limits(cluster, runs[0].profile, request_for(session.study, runs, ""))
    return timing_of(session.study.layout, session.ledger, runs, limits)


def enter(session: Session, wanted: RunRequest) -> Entered:
    """Declare the runs, and submit the new ones as one job or array.

    Raises:
        UsageError: The request can never be submitted, because of its settings or by the scheduler's refusal. Nothing
            was made.
        OverBudget: The budget has no room for the new runs. Nothing was made.
    """
    check_profile_resources(wanted.profile, wanted.resources)
    study = session.study
    if wanted.file is None:
        wanted = replace(wanted, file=file_of(study, wanted.stage))
    wanted = replace(wanted, profile_copy=keep_profile(study.layout, wanted.profile))
    cluster = session.cluster(used_profile(study.layout, wanted.profile, wanted.profile_copy))
    if cluster.absent:
        _refuse_new(session, wanted, cluster.absent)
    find_tasks(study.root, [wanted.configs[0].task])
    code = snapshot_code(study.layout.code, wanted.configs[0].task)
    with session.ledger.transaction() as transaction:
        _check_stage(transaction, wanted)
        declared = declare(transaction, wanted, code=code.name)
    if not declared.new:
        with session.ledger.transaction() as transaction:
            _record_stage(transaction, wanted, declared)
        _revive(session, wanted)
        return Entered(declared.existing, (), None)
    with suppress(ClusterError):  # sbatch will fail in the same way, and `send` handles its errors
        timing = _timing(session, cluster, declared.new)
        cluster.check(request_for(study, timing.applied(declared.new), new_token()))
    with session.ledger.transaction() as transaction:
        _, shortfall = reservations_for(transaction, declared.new, session.terms)
    if shortfall is not None:
        raise OverBudget(shortfall)
    _make_room(session, declared.new)
    with session.ledger.transaction() as transaction:
        former = next((each for each in transaction.stages() if each.name == wanted.stage), None)
        transaction.add_runs(declared.new)
        _record_stage(transaction, wanted, declared)
    _revive(session, wanted)
    ready, later = _in_turn(session, declared)
    if not ready:
        return Entered(declared.existing, declared.new, _plan(session, later), code.note)
    queue = Queue(session.ledger, session.clock())
    # one array; a pass submits the rest as soon as it may follow
    sent = next(send_in_turn(study, queue, cluster, ready, session.terms, session.clock(), later))
    if not sent.runs:
        _plan(session, declared.new)
    if sent.outcome in (SubmitOutcome.REFUSED, SubmitOutcome.OVER_BUDGET):
        discard(study, session.ledger, declared.new)
        if wanted.sweep is not None and former is not None:
            with session.ledger.transaction() as transaction:
                was = {each.name: getattr(former, each.name) for each in fields(former)}
                transaction.update_stage(**was)
        raise UsageError(
            f"the scheduler refused the job: {sent.said}; nothing was submitted: change [resources] in study.toml, or "
            "give --partition, --account, --qos or --time-limit"
        )
    return Entered(declared.existing, declared.new, sent, code.note)


def _refuse_new(session: Session, wanted: RunRequest, why: str) -> None:
    """Refuse new runs; `why` says why nothing can be submitted from this host."""
    with session.ledger.transaction() as transaction:
        new = declare(transaction, wanted, code="").new
    if new:
        raise UsageError(
            f"{why}; nothing was submitted: run lvjobs on a login node of the cluster, or use --profile local"
        )


def _check_stage(transaction: Transaction, wanted: RunRequest) -> None:
    """Refuse a stage that would wait forever, or change although a stage built on it has begun."""
    if wanted.sweep is not None:
        stage = Stage.model_validate(wanted.sweep.definition)
        records = {record.name: record for record in transaction.stages()}
        check_earlier(stage, records, set())
        if not is_same(records[stage.name], asdict(wanted.sweep)):
            check_later(stage, records.values())


def _record_stage(transaction: Transaction, wanted: RunRequest, declared: Declaration) -> None:
    """Add the runs to their stage's cells, and set it to running, unless it is decided and nothing is new."""
    if wanted.sweep is None:
        return
    transaction.add_cells(wanted.stage, declared.ids)
    record = next(each for each in transaction.stages() if each.name == wanted.stage)
    asked = asdict(wanted.sweep)
    if record.state is StageState.COMPLETED and not declared.new and is_same(record, asked):
        return
    transaction.update_stage(wanted.stage, state=StageState.RUNNING, **UNDECIDED, **asked)


def _revive(session: Session, wanted: RunRequest) -> None:
    if wanted.sweep is not None:
        revive(session, wanted.stage)


def _in_turn(session: Session, declared: Declaration) -> tuple[list[RunRecord], list[RunRecord]]:
    """Return the new runs that may be submitted now, and those that come after a run that is not completed."""
    with session.ledger.transaction() as transaction:
        completed = {run.id for run in transaction.runs() if run.state is RunState.COMPLETED}
    ready = {run.id: run for run in declared.new if not run.after or run.after in completed}
    return list(ready.values()), [run for run in declared.new if run.id not in ready]


def _plan(session: Session, later: Sequence[RunRecord]) -> SubmitResult:
    """Reserve the FLOPs of runs that cannot be submitted yet; a pass submits them in their turn."""
    with session.ledger.transaction() as transaction:
        wanted, _ = reservations_for(transaction, later, session.terms)
        transaction.reserve({run.id: wanted[run.id] for run in later if run.id in wanted})
    return SubmitResult(later, "", SubmitOutcome.PLANNED, said="they come after runs that are not completed yet")


def _make_room(session: Session, runs: Sequence[RunRecord]) -> None:
    for run in runs:
        _refuse_anothers(session.study.layout.run(run.name), run)
    try:
        prepare(session.study, runs)
    except OSError as error:
        clear(session.study, runs)
        raise UsageError(
            f"{session.study.layout.checkpoints} cannot be written ({error.strerror}); nothing was submitted: make "
            "room, or choose another --study"
        ) from error


def _refuse_anothers(files: RunLayout, run: RunRecord) -> None:
    """Refuse a run directory that belongs to another user or to another run.

    A directory that a worker has claimed, but this ledger does not know, may only be used by the same run.
    """
    if is_foreign(files.root):
        raise UsageError(
            f"{files.root} belongs to another user, who could change what the run trains; nothing was submitted: "
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
