"""The user's commands for stages: request them and their runs, choose a winner, retry or skip held runs, stop them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.control.reconcile.run_commands import find_runs, pause, resume_runs
from lvjobs.control.session import Session
from lvjobs.control.stages.halving import end_waiting
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Event, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.study.words import HeldFor, RunState, StageState
from lvjobs.sweep.request import Request, without_carried

BEGUN = (StageState.RUNNING, StageState.COMPLETED)
_AT_REST = (HeldFor.PRUNED, HeldFor.RUNG)


def ask(session: Session, stages: Sequence[Stage], request: Request) -> list[str]:
    """Request stages, so that each begins once its parents are decided. Return what was done, one line each.

    Stages that have begun, and were requested in the same way, stay unchanged.

    Raises:
        UsageError: A stage comes after one that was not requested, or changes although a stage built on it has begun.
    """
    told, again = [], []
    with session.ledger.transaction() as transaction:
        records = {record.name: record for record in transaction.stages()}
        named = {stage.name for stage in stages}
        for stage in stages:
            record = records[stage.name]
            check_earlier(stage, records, named, session.study.where)
            asked = asked_for(stage, request)
            if has_begun(record, stage, request):
                told.append(f"{stage.name}: {record.state.value} already")
                continue
            check_later(stage, records.values())
            changes = {**UNDECIDED, "definition": asked.definition, "request": asked.request}
            transaction.update_stage(stage.name, state=StageState.ASKED, **changes)
            transaction.add_event(Event(session.clock(), "stage", f"{stage.name}: requested"))
            again.append(stage.name)
    return told + [line for name in again for line in revive(session, name, session.study.where)]


UNDECIDED: Mapping[str, Any] = {"reason": "", "winner": "", "because": "", "by_hand": False}
"""The ledger's values for a stage without a known winner."""


def has_begun(record: StageRecord, stage: Stage, request: Request) -> bool:
    """Return whether the stage has begun, and was requested in the same way."""
    return record.state in BEGUN and is_same(record, asked_for(stage, request))


def asked_for(stage: Stage, request: Request) -> StageRecord:
    """Return the record of a stage that is requested now. Its place among the stages is not set."""
    definition = stage.model_dump(mode="json", by_alias=True)
    return StageRecord(stage.name, 0, definition, request=request.model_dump(mode="json"))


def stage_request(sweep: StageRecord, runs: Iterable[tuple[RunConfig, str, str]]) -> RunRequest:
    """Return the request for runs of a stage: configurations, names, and the ids of the runs that they come after."""
    stage, request = sweep.stage, Request.model_validate(sweep.request)
    configs, names, after = zip(*runs, strict=True)
    file = request.file_of(stage)
    return RunRequest(configs, names, stage.name, request.profile, request.resources, after, sweep=sweep, file=file)


def is_same(record: StageRecord, asked: StageRecord) -> bool:
    """Return whether a stage was requested before with the same runs and the same comparison.

    Settings that a user may change while runs train, and settings of where they train, are not compared.
    """
    if not record.request:
        return False
    before, now = record.stage, asked.stage
    old, new = (Request.model_validate(each) for each in (record.request, asked.request))
    patience = {"on_hold": now.on_hold, "quorum": now.quorum}
    before, now = (each.model_copy(update={"set": without_carried(each.set)}) for each in (before, now))
    scored = [(each.systems, each.origins, each.baselines) for each in (old, new)]
    same_systems = scored[0] == scored[1] or not now.evaluates
    return before.model_copy(update=patience) == now and old.trains_as(new) and same_systems


def check_earlier(
    stage: Stage, records: Mapping[str, StageRecord], asked_now: set[str], where: Sequence[str] = ()
) -> None:
    """Refuse a stage that would wait forever. `where` is `StudyContext.where`, for commands at the prompt.

    Raises:
        UsageError: The stage comes after one that was not requested.
    """
    for name in stage.awaited:
        if records[name].state is StageState.DECLARED and name not in asked_now:
            raise UsageError(
                f"{stage.name} depends on {name}, which was not submitted; type: "
                f"{remedies.SWEEP_STAGE(*where, stage=name)}, or for everything: {remedies.SWEEP_ALL(*where)}"
            )


def check_later(stage: Stage, records: Iterable[StageRecord]) -> None:
    """Refuse to change a stage that a later stage was built on.

    Raises:
        UsageError: A stage built on this one has begun.
    """
    for record in records:
        if record.definition.get("from") == stage.name and record.state in BEGUN:
            raise UsageError(
                f"{record.name} started with the settings of {stage.name}'s winner, so it can no longer change; give "
                f"the changed stage a new name in study.toml"
            )


def choose(session: Session, name: str, word: str, because: str) -> list[str]:
    """Make a run of the stage its winner, whatever the rule says; `because` is kept as the reason.

    Return what was done, one line.

    Raises:
        UsageError: The reason is empty, the stage has no such run, or a later stage has begun with another winner.
    """
    if not because.strip():
        raise UsageError('--winner needs a reason: add --because "..."')
    with session.ledger.transaction() as transaction:
        record = _begun(session, transaction, name)
        (run,) = find_runs(transaction, [word], session.study.where)
        if run.id not in transaction.cells().get(name, ()):
            show = remedies.SWEEP_SHOW(*session.study.where, stage=name)
            raise UsageError(f"{run.name} is no run of {name}; see: {show}")
        if run.id == record.winner and record.by_hand:
            return [f"{name}: {run.name} is its winner already"]
        if run.id != record.winner:
            check_later(record.stage, transaction.stages())
        changes = {"winner": run.id, "because": because.strip(), "by_hand": True}
        transaction.update_stage(name, **changes, state=StageState.COMPLETED, reason="")
        end_waiting(transaction, name)
        text = f"{name}: {run.name} chosen by hand: {because.strip()}"
        transaction.add_event(Event(session.clock(), "stage", text, run.id))
    return [text]


def go_on_without_held(session: Session, name: str, quorum: int | None) -> list[str]:
    """Let a stage be decided without its held runs, once at least `quorum` candidates are complete (None: 1).

    Return what was done, one line.

    Raises:
        UsageError: The stage has no runs, or a quorum is given for a stage of evaluations.
    """
    with session.ledger.transaction() as transaction:
        record = _begun(session, transaction, name)
        if quorum is not None and record.stage.evaluates:
            raise UsageError(f"--quorum: {name} evaluates runs and decides nothing; leave --quorum out ")
        definition = {**record.definition, "on_hold": "skip", "quorum": quorum}
        transaction.update_stage(name, definition=definition)
        text = f"{name}: continues without its held runs"
        transaction.add_event(Event(session.clock(), "stage", text))
    return [text]


def retry_held(session: Session, name: str) -> list[str]:
    """Resume the stage's held runs, and the stage if it is held itself. Return what was done, one line each.

    Raises:
        UsageError: The stage has no runs, or `resume_runs` refuses one.
    """
    with session.ledger.transaction() as transaction:
        record = _begun(session, transaction, name)
        cells = set(transaction.cells()[name])
        held = [run.name for run in transaction.runs() if run.id in cells and run.state is RunState.HELD]
        if record.state is StageState.HELD:
            transaction.update_stage(name, state=StageState.RUNNING, reason="")
    return resume_runs(session, held, {}, session.study.where) or [f"{name}: none of its runs is held"]


def stop(session: Session, name: str) -> list[str]:
    """Stop a stage (or "all"), and pause its open runs, except those of other requested stages.

    Completed runs and decided stages stay. Return what was done, one line each.

    Raises:
        UsageError: The study has no such stage.
    """
    told = []
    with session.ledger.transaction() as transaction:
        records = {record.name: record for record in transaction.stages()}
        if name != "all" and name not in records:
            raise UsageError(
                f"no stage {name!r} in study.toml (declared: {', '.join(records) or 'none'}); "
                f"see: {remedies.SWEEP_PLAN(*session.study.where)}"
            )
        asked = [each for each, record in records.items() if record.state is not StageState.DECLARED]
        names = [name] if name != "all" else asked
        others = set(asked) - set(names)
        cells, runs = transaction.cells(), {run.id: run for run in transaction.runs()}
        for each in names:
            if records[each].state is StageState.DECLARED:
                told.append(f"{each} was not submitted")
            elif records[each].state is not StageState.COMPLETED:
                transaction.update_stage(each, state=StageState.DECLARED, **UNDECIDED)
                transaction.add_event(Event(session.clock(), "stage", f"{each}: stopped by the user"))
                told.append(f"{each}: stopped")
    shared = {run_id for each in others for run_id in cells.get(each, ())}
    mine = dict.fromkeys(run_id for each in names for run_id in cells.get(each, ()) if run_id not in shared)
    # These stay so: a pruned run would be resumed with the others, and one at its rung has nothing to do.
    open_ = [runs[id_] for id_ in mine if not runs[id_].state.is_final and runs[id_].held_for not in _AT_REST]
    if open_:
        told += pause(session, [run.name for run in open_], "its stage was stopped", held_for=HeldFor.STOPPED)
    return told


def revive(session: Session, name: str, where: Sequence[str] = ()) -> list[str]:
    """Resume the runs that were paused when the stage was stopped. Return what was done; `where`: see `resume_runs`."""
    with session.ledger.transaction() as transaction:
        cells = set(transaction.cells().get(name, ()))
        runs = [run for run in transaction.runs(only_open=True) if run.id in cells and run.held_for is HeldFor.STOPPED]
    return resume_runs(session, [run.name for run in runs], {}, where) if runs else []


def _begun(session: Session, transaction: Transaction, name: str) -> StageRecord:
    record = next((each for each in transaction.stages() if each.name == name), None)
    if record is None or not transaction.cells().get(name):
        raise UsageError(f"{name} has no runs yet; type: {remedies.SWEEP_STAGE(*session.study.where, stage=name)}")
    return record
