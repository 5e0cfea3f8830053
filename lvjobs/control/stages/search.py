"""The search of a stage with a space: record what became of its trials, and propose the next ones while there is room.

Both are in the ledger before any run follows from them. If a pass fails in between, the next pass finds the proposed
trials in the ledger, and declares exactly these.
"""

from bisect import bisect_left
from collections.abc import Sequence

from lvjobs.control.session import Session
from lvjobs.control.stages.outcomes import curve_of, measured, standing_of
from lvjobs.control.stages.requests import stage_request
from lvjobs.control.submission.declare import KnownRuns, RunRequest, declare, default_name
from lvjobs.control.submission.send import Shortfall, reservations_for
from lvjobs.ledger.records import RunRecord, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request
from lvjobs.sweep.sampling import SearchRecord, TrialOutcome, propose, room, verdict


def next_trials(
    session: Session,
    record: StageRecord,
    stages: Sequence[Stage],
    ground: RunConfig | None,
    runs: Sequence[RunRecord],
) -> tuple[RunRequest | None, Shortfall | None]:
    """Record the verdicts of trials that have ended, and let the sampler propose new ones.

    Return the runs of proposed trials that are not yet cells of the stage. Return the shortfall instead if the budget
    has no room for the first trial. If both are None, a trial is open, or all trials of the search have ended.

    Args:
        session: The study.
        record: The stage.
        stages: All stages, in order.
        ground: The winner of the stage that this one builds on; None for none.
        runs: The stage's runs.

    Raises:
        UsageError: [train] refuses a point. The message names the stage.
    """
    stage, request = record.stage, Request.model_validate(record.request)
    search = stage.search
    assert search is not None
    identity = request.search_identity(stage, stages, ground)
    kept = session.ledger.call(kept_of, stage.name)
    history = kept if kept.identity == identity else SearchRecord(stage.name, identity)
    known = KnownRuns(runs)
    verdicts: dict[int, TrialOutcome] = {}
    pending: list[tuple[int, Sequence[RunConfig]]] = []
    passed_over = []
    for number, trial in enumerate(history.trials):
        if trial.verdict is not None:
            continue
        configs = request.configs(stage, stages, ground, [trial.point])
        cells = [cell for config in configs if (cell := known.find(config)) is not None]
        if len(cells) < len(configs):
            pending.append((number, configs))
        elif found := _verdict(session, stage, cells):
            verdicts[number] = found
        elif stage.on_hold == "skip" and not any(standing_of(cell) == "open" for cell in cells):
            passed_over.append(number)
    now = history.told(verdicts)
    trials = now.trials
    count = room(search, trials, passed_over)
    points = propose(request.space(stage), search, stage.select.mode, trials, count, request.model)
    proposed = [
        (number, request.configs(stage, stages, ground, [point])) for number, point in enumerate(points, len(trials))
    ]
    wanted, fitting, shortfall = _fitting(session, record, request, [*pending, *proposed])
    new = points[: max(0, fitting - len(pending))]
    if verdicts or new:
        with session.ledger.transaction() as transaction:
            transaction.set_rows("searches", [now.proposed(new)], stage=stage.name)
    return wanted, shortfall if wanted is None else None


def kept_of(transaction: Transaction, stage: str) -> SearchRecord:
    """Return the ledger's record of a stage's search; an empty record if there is none."""
    return transaction.row("searches", SearchRecord, stage=stage) or SearchRecord(stage)


def _verdict(session: Session, stage: Stage, runs: Sequence[RunRecord]) -> TrialOutcome | None:
    # A trial with a held run is open: an infrastructure failure proves nothing about a point.
    if any(standing_of(run) in ("open", "held") for run in runs):
        return None
    layout = session.study.layout
    curves = {run.id: curve_of(run, stage.select, layout) for run in runs}
    last = {run_id: (max(curve), curve[max(curve)]) for run_id, curve in curves.items() if curve}
    return verdict([measured(run, session.terms, stage.select, layout) for run in runs], last)


def _fitting(
    session: Session, record: StageRecord, request: Request, trials: Sequence[tuple[int, Sequence[RunConfig]]]
) -> tuple[RunRequest | None, int, Shortfall | None]:
    """Return the runs of the first trials that the budget has room for, their number, and the next one's shortfall."""
    if not trials:
        return None, 0, None
    with session.ledger.transaction() as transaction:
        declared = declare(transaction, _wanted(record, request, trials))
        new = {run.fingerprint: run for run in declared.new}

        def lacks(count: int) -> Shortfall | None:
            prints = {config.fingerprint for _, configs in trials[:count] for config in configs}
            asked = [run for fingerprint, run in new.items() if fingerprint in prints]
            return (
                reservations_for(transaction, asked, session.terms, session.study.layout, session.clock())[1]
                if asked
                else None
            )

        fitting = bisect_left(range(1, len(trials) + 1), 1, key=lambda count: lacks(count) is not None)
        shortfall = lacks(fitting + 1) if fitting < len(trials) else None
    return _wanted(record, request, trials[:fitting]) if fitting else None, fitting, shortfall


def _wanted(record: StageRecord, request: Request, trials: Sequence[tuple[int, Sequence[RunConfig]]]) -> RunRequest:
    """Return the runs of the trials: each once, even if two trials propose the same."""
    stage = record.stage
    named: dict[str, tuple[RunConfig, str, str]] = {}
    for number, configs in trials:
        for config in configs:
            name = default_name(config, f"{record.name}-t{number}", request.space(stage))
            named.setdefault(config.fingerprint, (config, name, ""))
    return stage_request(record, named.values())


def trials_of(transaction: Transaction, record: StageRecord) -> dict[str, int | None]:
    """Return how many trials a search has in all and how many are proposed; None for both if there is no search."""
    search = record.definition.get("search")
    if not search:
        return {"trials": None, "proposed": None}
    return {"trials": search["trials"], "proposed": len(kept_of(transaction, record.name).trials)}
