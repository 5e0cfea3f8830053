"""The progress of stages in a pass: decide a stage when its runs are complete, and declare the next stage's runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lvjobs import remedies
from lvjobs.control.session import Session
from lvjobs.control.stages.continuation import continued, find_starts
from lvjobs.control.stages.expand import zero_shot
from lvjobs.control.stages.halving import align, end_waiting, halve
from lvjobs.control.stages.origins import OWN, from_origins
from lvjobs.control.stages.outcomes import measured, outcome_of, standing_of
from lvjobs.control.stages.pruning import prune
from lvjobs.control.stages.requests import stage_request
from lvjobs.control.stages.search import next_trials
from lvjobs.control.stages.submit_runs import OverBudget, enter
from lvjobs.control.submission.declare import KnownRuns, RunRequest, default_name
from lvjobs.control.submission.send import Shortfall
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Event, RunRecord, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.run import RunConfig
from lvjobs.study.stage_order import in_order
from lvjobs.study.stages import Stage
from lvjobs.study.words import HeldFor, RunState, StageState
from lvjobs.sweep.request import Request
from lvjobs.sweep.selection import rank, waits_for
from lvjobs.tasks.registry import task_of

OPEN = (StageState.ASKED, StageState.RUNNING)


@dataclass
class _Stages:
    """All stages as the ledger has them, with the runs of open stages and of the stages that these evaluate."""

    records: dict[str, StageRecord]
    stages: Sequence[Stage]
    cells: Mapping[str, Sequence[str]]
    runs: Mapping[str, RunRecord]

    def runs_of(self, name: str) -> list[RunRecord]:
        return [self.runs[run_id] for run_id in self.cells.get(name, ())]

    def ground_of(self, stage: Stage) -> RunConfig | None:
        """Return the winner on whose settings the stage is built; None if it is built on no stage."""
        if not stage.origin:
            return None
        return self.runs[self.records[stage.origin].winner].configuration


def advance(session: Session) -> list[str]:
    """Advance each requested stage as far as possible. Return what was done, one line each.

    A stage that cannot continue because of a `UsageError` is held, with the message as the reason.
    """
    told: list[str] = []
    try:
        seen = _read(session)
    except ValueError as error:  # stages requested earlier do not fit those that were declared again since
        return _hold_all(session, str(error))
    is_changed = False
    for name in [stage.name for stage in seen.stages]:
        seen = _read(session) if is_changed else seen
        record = seen.records[name]
        is_changed = record.state in OPEN
        if is_changed:
            told += _step(session, seen, record.stage, record)
    return told


def _hold_all(session: Session, problem: str) -> list[str]:
    """Hold all open stages, because they do not fit together; their runs continue."""
    with session.ledger.transaction() as transaction:
        waiting = [record for record in transaction.stages() if record.state in OPEN]
    told: list[str] = []
    for record in waiting:
        reason = f"{problem}; fix study.toml, then: {remedies.SWEEP_STAGE(stage=record.name)}"
        told += _set(session, record, StageState.HELD, reason)
    return told


def _read(session: Session) -> _Stages:
    with session.ledger.transaction() as transaction:
        records = {record.name: record for record in transaction.stages()}
        if not any(record.state in OPEN for record in records.values()):
            return _Stages(records, [], {}, {})
        stages = in_order([record.stage for record in records.values()])
        looked_at = {stage.name for stage in stages if records[stage.name].state in OPEN}
        looked_at |= {name for stage in stages if stage.name in looked_at for name in stage.evaluate}
        cells = {name: run_ids for name, run_ids in transaction.cells().items() if name in looked_at}
        wanted = {run_id for run_ids in cells.values() for run_id in run_ids}
        wanted |= {record.winner for record in records.values()} - {""}
        return _Stages(records, stages, cells, {run.id: run for run in transaction.find_runs(wanted)})


def _step(session: Session, seen: _Stages, stage: Stage, record: StageRecord) -> list[str]:
    told: list[str] = []
    begins = record.state is StageState.ASKED
    waiting = [name for name in stage.awaited if seen.records[name].state is not StageState.COMPLETED]
    try:
        if waiting and (begins or stage.evaluates):
            return _set(session, record, StageState.ASKED, f"depends on {', '.join(waiting)}", loud=False)
        if stage.evaluates:
            return _evaluate(session, seen, stage, record)
        if begins and not stage.space:
            return _begin(session, seen, stage, record)
        told = align(session, stage, seen.runs_of(stage.name), seen.records)
        if stage.prune and not begins:
            seen = _read(session) if told else seen
            compare = halve if stage.prune.rule == "halving" else prune
            told += compare(session, stage, seen.runs_of(stage.name))
        seen = _read(session) if told else seen
        if stage.space:
            return told + _search(session, stage)
        return told + _decide(session, seen, stage, record)
    except UsageError as error:
        return _set(session, record, StageState.HELD, f"{error}; then: {remedies.SWEEP_STAGE(stage=stage.name)}")


def _set(session: Session, record: StageRecord, state: StageState, reason: str, *, loud: bool = True) -> list[str]:
    """Change a stage's state and reason; if that is a change and `loud`, report it."""
    if (record.state, record.reason) == (state, reason):
        return []
    text = f"{record.name}: {state.value}" + (f": {reason}" if reason else "")
    with session.ledger.transaction() as transaction:
        transaction.update_stage(record.name, state=state, reason=reason)
        if loud:
            transaction.add_event(Event(session.clock(), "stage", text))
    return [text] if loud else []


# -- a stage begins -----------------------------------------------------------------------------------------------


def _begin(session: Session, seen: _Stages, stage: Stage, record: StageRecord) -> list[str]:
    request = Request.model_validate(record.request)
    configs = request.configs(stage, seen.stages, seen.ground_of(stage))
    if stage.continues and stage.origin:
        winner = seen.runs[seen.records[stage.origin].winner]
        starts = find_starts(session.study.layout, winner, session.ledger.call(Transaction.runs))
        configs = continued(stage, configs, starts)
    named = [(config, default_name(config, stage.name, stage.varied), "") for config in configs]
    return _enter(session, record, stage_request(record, named))


def _search(session: Session, stage: Stage) -> list[str]:
    """Propose trials as others end, while there is room; decide the stage once all have ended."""
    told: list[str] = []
    while True:
        seen = _read(session)
        if session.absence(Request.model_validate(seen.records[stage.name].request).profile):
            return told
        record = seen.records[stage.name]
        runs = seen.runs_of(stage.name)
        wanted, shortfall = next_trials(session, record, seen.stages, seen.ground_of(stage), runs)
        if wanted is None:
            break
        told += _enter(session, record, wanted)  # if all these runs exist and have ended, the next turn is now
    if shortfall is not None:
        return told + _set(session, record, record.state, _waits_for_budget(shortfall))
    return told + _decide(session, seen, stage, record)  # waits by itself: until all trials are proposed, one is open


def _enter(session: Session, record: StageRecord, wanted: RunRequest) -> list[str]:
    """Submit all new runs of the stage; if the budget has no room for all, submit none, and let the stage wait."""
    if session.absence(wanted.profile):
        return []  # it stays due
    try:
        entered = enter(session, wanted)
    except OverBudget as error:
        return _set(session, record, record.state, _waits_for_budget(error.shortfall))
    told = [f"{record.name}: {run.name} exists already and is not trained again" for run in entered.existing]
    if entered.new:
        sent = entered.sent
        how = f"submitted as job {sent.job_id}" if sent and sent.job_id else "planned"
        why = f" ({sent.said})" if sent and not sent.job_id else ""
        told.append(f"{record.name}: {len(entered.new)} new run{'s' if len(entered.new) > 1 else ''}, {how}{why}")
    if entered.note:
        told.append(f"{record.name}: {entered.note}")
    return told


def _waits_for_budget(shortfall: Shortfall) -> str:
    # The GPU-hours that are needed and free differ in each pass. A reason that changes is an event.
    hours = "it needs more GPU-hours than are free"
    return f"waits for the budget: {shortfall if shortfall.is_of_flops else hours}; see {remedies.BUDGET}"


# -- a stage is decided -------------------------------------------------------------------------------------------


def _decide(session: Session, seen: _Stages, stage: Stage, record: StageRecord) -> list[str]:
    runs = seen.runs_of(stage.name)
    if any(standing_of(run) == "open" and run.held_for is not HeldFor.RUNG for run in runs):
        return _set(session, record, StageState.RUNNING, "", loud=False)
    plain = [outcome_of(run, session.terms) for run in runs]
    if waiting := waits_for(plain, stage.on_hold, stage.quorum):
        held = [outcome.name for outcome in waiting if outcome.standing == "held"]
        if not held:  # all wait at a rung: the next pass compares them
            return _set(session, record, StageState.RUNNING, "", loud=False)
        reason = (
            f"waits for {', '.join(held)}, held; resume: {remedies.RESUME_RUN(run=held)}; or decide without: "
            f"{remedies.SWEEP_WITHOUT_HELD(stage=stage.name)}"
        )
        return _set(session, record, StageState.RUNNING, reason)
    ranking = rank([measured(run, session.terms, stage.select, session.study.layout) for run in runs], stage.select)
    winner = ranking.winner
    if winner is None:
        why = "; ".join(f"{each.name}: {each.why}" for each in ranking.others)
        reason = f"no run can win ({why}); choose: {remedies.SWEEP_WINNER(stage=stage.name)}"
        return _set(session, record, StageState.HELD, reason)
    text = f"{stage.name}: decided: {winner.name}, {ranking.why}"
    with session.ledger.transaction() as transaction:
        changes = {"winner": winner.run_id, "because": ranking.why, "by_hand": False, "reason": ""}
        transaction.update_stage(stage.name, state=StageState.COMPLETED, **changes)
        end_waiting(transaction, stage.name)
        transaction.add_event(Event(session.clock(), "stage", text, winner.run_id))
    return [text]


# -- evaluations follow -------------------------------------------------------------------------------------------


def _evaluate(session: Session, seen: _Stages, stage: Stage, record: StageRecord) -> list[str]:
    """Declare evaluations together with the runs that they follow; each waits for its own run."""
    request = Request.model_validate(record.request)
    runs = seen.runs_of(stage.name)
    known = KnownRuns(runs)
    new = [each for each in _evaluations_of(stage, request, seen, session) if known.find(each[0]) is None]
    if new:
        return _enter(session, record, stage_request(record, new))
    left = [run for run in runs if not run.state.is_final and run.held_for is not HeldFor.PRUNED]
    if stage.on_hold == "skip":
        held = {  # until the user resumes them
            run.id
            for run in [*runs, *_sources(seen, stage)]
            if run.state is RunState.HELD and run.held_for is not HeldFor.BUDGET
        }
        left = [run for run in left if run.id not in held and run.after not in held]
    to_come = [name for name in stage.evaluate if seen.records[name].state is not StageState.COMPLETED]
    if to_come or left:
        unasked = [name for name in to_come if seen.records[name].state is StageState.DECLARED]
        reason = (
            f"depends on {', '.join(unasked)}, which was not submitted; type: {remedies.SWEEP_ALL}" if unasked else ""
        )
        return _set(session, record, StageState.RUNNING, reason, loud=False)
    return _set(session, record, StageState.COMPLETED, "")


def _sources(seen: _Stages, stage: Stage) -> list[RunRecord]:
    """Return the declared runs that the stage evaluates: each once, even if several stages have it."""
    every = [
        run
        for name in stage.evaluate
        for run in seen.runs_of(name)
        if run.state is not RunState.CANCELLED and run.held_for is not HeldFor.PRUNED
    ]
    return list({run.id: run for run in every}.values())


def _evaluations_of(
    stage: Stage, request: Request, seen: _Stages, session: Session
) -> Iterator[tuple[RunConfig, str, str]]:
    """Yield the stage's evaluations of the base model and of runs: configuration, name, and the id of the run."""
    origins = (OWN, *request.origins)
    for subject, config in zero_shot(stage, seen.stages, request):
        for made, name in from_origins(config, subject, origins, request.baselines):
            yield made, name, ""
    for run in _sources(seen, stage):
        final = session.study.layout.run(run.name).final
        config = task_of(run.config).evaluation(run.name, run.params, final, request.systems)
        for made, name in from_origins(config, run.name, origins, request.baselines):
            yield made, name, run.id
