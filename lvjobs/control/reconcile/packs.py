"""Runs that share a job: the facts about the others that a pass needs to decide about one. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from lvjobs.control.reconcile.views import MemberView, PackView, RunView
from lvjobs.ledger.records import AttemptRecord, Member
from lvjobs.study.words import MemberState, RunState


def with_packs(
    views: Sequence[RunView], known: Iterable[AttemptRecord], unread: Collection[Member] = ()
) -> list[RunView]:
    """Return the views, with a `PackView` in each place that belongs to a shared job.

    Args:
        views: The runs that this pass could read.
        known: The ledger's attempts in shared jobs, also of runs that no longer have a view.
        unread: The places of unfinished runs whose directories this pass could not read. Their jobs are needed too.
    """
    places = [(view, place) for view in views for place in view.places if place.submission.packed]
    if not places:
        return list(views)
    waiting: dict[str, set[str]] = defaultdict(set)
    for view, place in places:
        if place.member.state is MemberState.LIVE and view.done is None and view.run.state is not RunState.COMPLETED:
            waiting[place.member.token].add(view.run.id)
    for member in unread:
        if member.state is MemberState.LIVE:
            waiting[member.token].add(member.run_id)
    attempts = {(each.run_id, each.token, each.generation, each.restart_count): each for each in known}
    for view in views:
        attempts |= {(view.run.id, each.token, each.generation, each.restart_count): each for each in view.attempts}
    by_token: dict[str, list[AttemptRecord]] = defaultdict(list)
    for attempt in attempts.values():
        by_token[attempt.token].append(attempt)
    return [_with_packs(view, waiting, by_token) for view in views]


def _with_packs(
    view: RunView, waiting: Mapping[str, set[str]], by_token: Mapping[str, Sequence[AttemptRecord]]
) -> RunView:
    def with_pack(place: MemberView) -> MemberView:
        if not place.submission.packed:
            return place
        token, run_id = place.member.token, view.run.id
        attempts = by_token.get(token, ())
        executions: dict[int, set[str]] = defaultdict(set)
        for attempt in attempts:
            if attempt.generation is not None:
                executions[attempt.restart_count].add(attempt.run_id)
        own = [attempt for attempt in view.attempts if attempt.token == token]
        pack = PackView(
            needed=bool(waiting.get(token, set()) - {run_id}),
            grown=max((attempt.grown for attempt in attempts), default=0.0),
            sharing={restart: len(runs) for restart, runs in executions.items()},
            # under a revoked token the worker is never started again, even if the job still runs
            left=place.member.state is MemberState.REVOKED and bool(own) and own[-1].is_over,
        )
        return replace(place, pack=pack)

    live = with_pack(view.live) if view.live else None
    return replace(view, live=live, others=[with_pack(place) for place in view.others])
