"""The inputs of `lvjobs plan`, `--dry-run` and `--fit`, read before they count: the ledger, if any; profiles."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from lvjobs.cluster.backends import backend_of
from lvjobs.control.budget.accounts import Books, ForecastsElsewhere, Terms, keep_books
from lvjobs.control.budget.cost import allowance, newest_checkpoints, work_ahead
from lvjobs.control.budget.gpu_hours import gpu_hours_of
from lvjobs.control.budget.gpu_hours import hours as hours_of
from lvjobs.control.budget.limit import terms_of
from lvjobs.control.budget.pace import Stopwatch, samples_of
from lvjobs.control.planning.estimate import Cell, ClusterCapacity, StageCells, estimate, sketch
from lvjobs.control.planning.fit import PriceOfAll, Proposal, Relief, propose, relieve
from lvjobs.control.planning.ledger_view import LedgerView, read
from lvjobs.control.planning.plans import room_for
from lvjobs.control.session import Session
from lvjobs.control.stages.continuation import find_starts
from lvjobs.control.stages.expand import TO_COME, Price, unfold
from lvjobs.control.submission.declare import KnownRuns, RunRequest, declare
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import WorkCounts
from lvjobs.study.config import StudyContext
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.study.tables import Resources
from lvjobs.study.words import RunState
from lvjobs.sweep.request import Points, Request, settings_of
from lvjobs.tasks.registry import check_costs, learn, rates_of, task_of


def unfolded(study: StudyContext, request: Request, seen: LedgerView) -> dict[str, list[RunConfig]]:
    """Return the runs of every stage, as study.toml declares them: built on winners where these are known."""
    winners = {name: run.configuration for name, run in seen.winners.items()}
    price = price_by(terms_of(study.config.budget))

    def proposed(stage: Stage, ground: RunConfig | None) -> Points:
        kept = seen.searches.get(stage.name)
        if kept is None or kept.identity != request.search_identity(stage, study.config.stage, ground):
            return ()
        return [trial.point for trial in kept.trials]

    stages, wanted = study.config.stage, study.config.evaluation
    begun = {stage.origin for stage in stages if stage.continues}
    starts = {name: find_starts(study.layout, run, seen.runs) for name, run in seen.winners.items() if name in begun}
    return unfold(stages, request, price, winners, wanted.series, proposed, wanted.origins, starts)


def foresee(
    study: StudyContext,
    stages: Mapping[str, Sequence[RunConfig]],
    seen: LedgerView,
    resources: Resources,
    profile: str,
    flops_per_second: float | None = None,
    *,
    evaluated: bool = True,
) -> dict[str, Any]:
    """Return the estimate of these runs (`stages`: by stage, in order), as `lvjobs plan --json` shows it.

    `flops_per_second` gives the pace of runs whose settings were not measured. `evaluated`: price the evaluation of
    each run that no declared stage has.

    Raises:
        UsageError: a model's shape is not known, or there is no such profile.
    """
    books = _books(study, seen)
    stopwatch = Stopwatch(samples_of(seen.runs, seen.attempts), flops_per_second)
    counted = _count(study, stages, seen, books, profile, singles_evaluated=evaluated)
    found = estimate(counted, books, stopwatch, _place(study, resources, profile))
    hours = _gpu_hours_needed(study, books, counted, resources)
    return {"study": str(study.root), **found, "gpu_hours": hours, "searches": _searches(study, stages)}


def _gpu_hours_needed(
    study: StudyContext, books: Books, stages: Sequence[StageCells], resources: Resources
) -> dict[str, float] | None:
    """Return what would be reserved for the runs that are not in the ledger, beside limit and free GPU-hours.

    None where GPU-hours are not limited.
    """
    limit = books.terms.gpu_seconds
    if limit is None:
        return None
    given = resources.variables() | resources.model_dump(include={"pack", "side_by_side"}, exclude_none=True)
    new = [[cell for cell in stage.cells if cell.account is None and not cell.same_as] for stage in stages]
    runs = [replace(cell.run, resources=given) for cell in chain(*new)]
    known = books.gpu_hours.with_profiles(study.layout, runs)

    def ahead(cell: Cell, stop_at: int) -> int:
        return known.ahead(replace(cell.run, resources=given, stop_at=stop_at), 0)

    needed = sum(stage.sum(ahead, cells) for stage, cells in zip(stages, new, strict=True))
    each = {"limit": limit, "free": books.room.gpu_seconds, "needed": needed}
    return {name: round(hours_of(seconds), 6) for name, seconds in each.items()}


def _searches(study: StudyContext, stages: Mapping[str, Sequence[RunConfig]]) -> list[dict[str, Any]]:
    """Return how many trials of each search are not proposed yet, and the point at which they are priced."""
    found = []
    for stage in study.config.stage:
        to_come = [config for config in stages.get(stage.name, ()) if config.seed >= TO_COME]
        if stage.space and to_come:
            settings = settings_of(to_come[0])
            point = {key: settings[key] for key in stage.space}
            found.append({"stage": stage.name, "trials": len(to_come) // len(stage.seeds or [0]), "dearest": point})
    return found


def what_still_fits(
    study: StudyContext, stages: Mapping[str, Sequence[RunConfig]], seen: LedgerView, profile: str
) -> list[dict[str, Any]]:
    """Return how many steps the free FLOPs allow for each declared stage that has not begun, taken by itself.

    Raises:
        UsageError: a model's shape is not known.
    """
    books = _books(study, seen)
    counted = _count(study, stages, seen, books, profile)
    return room_for([stage.demand(books.terms) for stage in counted], books.free)


def _books(study: StudyContext, seen: LedgerView) -> Books:
    terms, attempts = terms_of(study.config.budget), by_run(seen.attempts)
    samples = samples_of(seen.runs, seen.attempts) if terms.gpu_seconds is not None else {}
    hours = gpu_hours_of(terms.gpu_seconds, study.layout, seen.runs, attempts, samples, time.time(), sharing={})
    return keep_books(terms, seen.runs, seen.charges, seen.reservations, gpu_hours=hours)


def _count(
    study: StudyContext,
    stages: Mapping[str, Sequence[RunConfig]],
    seen: LedgerView,
    books: Books,
    profile: str,
    *,
    singles_evaluated: bool = True,
) -> list[StageCells]:
    learn(every := [config for configs in stages.values() for config in configs])
    check_costs(every, study.config.budget)
    known = KnownRuns(seen.runs)
    evaluated = {name for stage in study.config.stage for name in stage.evaluate}
    singles = set(stages) - {stage.name for stage in study.config.stage} if singles_evaluated else set()
    first: dict[str, str] = {}
    newest = newest_checkpoints(seen.attempts)
    # Evaluations that exist are runs with their own reservations. They are not counted again.
    declared: dict[tuple[str, int], int] = defaultdict(int)
    for run in seen.runs:
        if run.after and run.state is not RunState.CANCELLED:
            key = run.after, task_of(run.config).origin(run.params)
            declared[key] = max(declared[key], work_ahead(run.config, 0).generation)
    wanted = study.config.evaluation

    def cell(name: str, config: RunConfig) -> Cell:
        task, drawn = task_of(config), sketch(config, rates_of(config), name, profile)
        found = known.find(config)
        own = task.origin(config.params)
        series = task.scored(config.params, wanted.series) if name in evaluated | singles else 0
        moved = [origin for origin in wanted.origins if origin != own] if series and name in evaluated else []
        elsewhere = {origin: ForecastsElsewhere(rates_of(task.at_origin(config, origin)), series) for origin in moved}
        earlier = first.setdefault(config.fingerprint, name)
        if earlier != name:
            return Cell(drawn, series, same_as=earlier, elsewhere=[*elsewhere.values()])
        if found is None:
            return Cell(drawn, series, elsewhere=[*elsewhere.values()])
        # An earlier release may have priced the run by fewer conventions than are shown.
        run = replace(found, rates=drawn.rates)
        left = [each.less(declared[found.id, origin]) for origin, each in elsewhere.items()]
        series = max(0, series - declared[found.id, own])
        return Cell(run, series, books.accounts[found.id], newest[found.id], elsewhere=left)

    declared_stages = {stage.name: stage for stage in study.config.stage}

    def cells(name: str, configs: Sequence[RunConfig]) -> StageCells:
        stage = declared_stages.get(name)
        halving = stage.prune if stage is not None and stage.prune and stage.prune.rule == "halving" else None
        seeds = stage.repeats if stage is not None else 1
        return StageCells(name, [cell(name, each) for each in configs], halving, seeds)

    return [cells(name, configs) for name, configs in stages.items() if configs]


def what_fits(
    session: Session, wanted: RunRequest, name_of: Callable[[RunConfig], str]
) -> tuple[Proposal, RunRequest] | None:
    """Return a proposal for the new runs of a request that fits the budget, and the request changed by it.

    `name_of` names the changed runs. None if there are no new runs, or nothing fits.
    """
    asked, price, free = _to_fit(session, wanted)
    proposal = propose(asked, price, free) if asked else None
    if proposal is None:
        return None
    changed = dict(zip([config.fingerprint for config in asked], proposal.configs, strict=True))
    configs = [changed.get(config.fingerprint, config) for config in wanted.configs]
    names = [
        name if config is was else name_of(config)
        for name, config, was in zip(wanted.names, configs, wanted.configs, strict=True)
    ]
    return proposal, replace(wanted, configs=configs, names=names)


def what_helps(session: Session, wanted: RunRequest) -> Relief | None:
    """Return the changes that make a run fit for which `what_fits` has no proposal; None unless 1 run is new."""
    asked, price, free = _to_fit(session, wanted)
    return relieve(asked[0], price, free) if len(asked) == 1 else None


def _to_fit(session: Session, wanted: RunRequest) -> tuple[list[RunConfig], PriceOfAll, int]:
    """Return the request's new runs, the function that prices such runs together, and the FLOPs free for them."""
    with session.ledger.transaction() as transaction:
        seen = read(transaction)
        new = {run.name for run in declare(transaction, wanted).new}
    price = price_by(session.terms)

    def together(configs: Sequence[RunConfig]) -> int:
        learn(configs)
        return sum(map(price, configs))

    free = keep_books(session.terms, seen.runs, seen.charges, seen.reservations).free
    free -= sum(price(config) for config, name in wanted.evaluations if name in new)  # independent of their runs' steps
    return [config for config, name in zip(wanted.configs, wanted.names, strict=True) if name in new], together, free


def price_by(terms: Terms) -> Price:
    """Return the function that prices a new run in FLOPs: its whole allowance, as the gate reserves it."""

    def price(config: RunConfig) -> int:
        run = sketch(config, rates_of(config))
        return terms.price(run, allowance(run, WorkCounts(), 0))

    return price


def _place(study: StudyContext, resources: Resources, profile: str) -> ClusterCapacity:
    shared = (resources.pack or 1, resources.side_by_side or 1)
    if not backend_of(profile).is_site:
        at_once = min(study.config.local_slots, resources.max_parallel or 10**9)
        return ClusterCapacity(resources.gpus or 0, at_once, *shared)
    gpus = resources.gpus
    if gpus is None:
        from lvjobs.cluster.profiles import load_profile

        gpus = int(load_profile(profile).defaults().get("gpus") or 0)
    return ClusterCapacity(gpus * (resources.nodes or 1), resources.max_parallel, *shared)
