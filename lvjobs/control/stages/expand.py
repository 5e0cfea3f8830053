"""All runs of a study's stages, before they exist: the most expensive case is assumed. Pure.

If a parent stage is undecided, its most expensive candidate is assumed to win. If a sampler has not proposed a trial
yet, the most expensive point of the stage's space is assumed.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lvjobs.control.stages.continuation import Starts, assumed_starts, continued
from lvjobs.control.stages.origins import OWN, from_origins
from lvjobs.study.run import RunConfig
from lvjobs.study.space import corners, ends
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Points, Request
from lvjobs.tasks.registry import task_of

Price = Callable[[RunConfig], int]
Proposed = Callable[[Stage, RunConfig | None], Points]
"""The points that were already proposed for a stage; the configuration is its parent stage's winner, or None."""

TO_COME = 10**6
"""The first seed of trials that are not proposed yet, so large that no run of the ledger has the same configuration."""


def unfold(
    stages: Sequence[Stage],
    request: Request,
    price: Price,
    winners: Mapping[str, RunConfig],
    series: int,
    proposed: Proposed = lambda _stage, _ground: (),
    origins: Sequence[int] = (),
    starts: Mapping[str, Starts] = MappingProxyType({}),
) -> dict[str, list[RunConfig]]:
    """Return the configurations of each stage's runs, by the stage's name, without evaluations of runs.

    Args:
        stages: The stages, each after those that it builds on.
        request: The request, as the user made it.
        price: The FLOPs of a run.
        winners: The winners of decided stages, by stage name. If a stage has none, later stages are built on its run
            with the highest price, so that the result is the most that they can cost.
        series: The number of held-out systems of an evaluation; 0 for none.
        proposed:  The points that a sampler has already proposed.
        origins: The forecast origins of evaluations, beside each run's own.
        starts: The checkpoints of decided stages' winners, by stage name. For other stages they are assumed.
    """
    found: dict[str, list[RunConfig]] = {}
    for stage in stages:
        if stage.evaluates:
            made = zero_shot(stage, stages, request, series) if series else []
            found[stage.name] = [
                config
                for name, own in made
                for config, _ in from_origins(own, name, (OWN, *origins), request.baselines)
            ]
            continue
        winner = None
        if stage.origin is not None:
            winner = winners.get(stage.origin) or max(found[stage.origin], key=price)
        if stage.space:
            points = proposed(stage, winner)
            found[stage.name] = _searched(stage, stages, request, price, winner, points)
        else:
            found[stage.name] = request.configs(stage, stages, winner)
        if stage.continues and stage.origin is not None and winner is not None:
            known = starts.get(stage.origin) or assumed_starts(winner, found[stage.origin])
            found[stage.name] = continued(stage, found[stage.name], known)
    return found


def _searched(
    stage: Stage, stages: Sequence[Stage], request: Request, price: Price, ground: RunConfig | None, known: Points
) -> list[RunConfig]:
    assert stage.search is not None
    made = request.configs(stage, stages, ground, known) if known else []
    if (to_come := stage.search.trials - len(known)) > 0:
        runs = request.configs(stage, stages, ground, [dearest(stage, stages, request, price, ground)])
        seeds = range(TO_COME, TO_COME + to_come * len(runs))
        made += [runs[seed % len(runs)].model_copy(update={"seed": seed}) for seed in seeds]
    return made


def dearest(
    stage: Stage, stages: Sequence[Stage], request: Request, price: Price, ground: RunConfig | None = None
) -> dict[str, Any]:
    """Return the corner of the stage's space at which a run costs most, by `price` in FLOPs.

    Settings that do not change the price have their first value. `ground` is the parent stage's winner.
    """

    def cost(point: Mapping[str, Any]) -> int:
        return price(request.configs(stage, stages, ground, [point])[0])

    (first,) = corners(stage.space, ())
    costly = [
        key for key, values in stage.space.items() if len({cost({**first, key: value}) for value in ends(values)}) > 1
    ]
    return max(corners(stage.space, costly), key=cost)


def zero_shot(
    stage: Stage, stages: Sequence[Stage], request: Request, series: int | None = None
) -> list[tuple[str, RunConfig]]:
    """Return the stage's evaluations of the untrained model, one for each prompt, each with its subject's name.

    `series`: the number of systems that are forecast, if the request does not list them.
    """
    if not stage.zero_shot:
        return []
    systems = request.systems or list(range(series or 0))
    return [
        each
        for config in request.evaluated(stage, stages)
        for each in task_of(config).untrained(config.params, stage.zero_shot, systems)
    ]
