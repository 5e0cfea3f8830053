"""All runs of a study's stages, also of those whose ground is not known yet: as if the dearest run won. Pure.

And as if a sampler proposed the dearest point of a stage's space each time, where it has not proposed yet.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lvjobs.study.run import RunConfig
from lvjobs.study.space import corners, ends
from lvjobs.study.stages import Stage
from lvjobs.sweep.grid import Points
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import task_of

Price = Callable[[RunConfig], int]
Proposed = Callable[[Stage, RunConfig | None], Points]
"""The points that were proposed already for a stage on this ground."""

TO_COME = 10**6
"""Seeds from here on stand for trials that are not proposed yet: so no run of the ledger is taken for one of them."""


def unfold(
    stages: Sequence[Stage],
    request: Request,
    price: Price,
    winners: Mapping[str, RunConfig],
    series: int,
    proposed: Proposed = lambda _stage, _ground: (),
) -> dict[str, list[RunConfig]]:
    """The configurations of each stage's runs, by its name; `stages` in order. Evaluations of runs are not among them.

    Where a stage's winner is not known, later stages are built on the run with the highest `price`: what they may
    cost at most. `series` are the held-out systems of an evaluation; 0 for none.
    """
    found: dict[str, list[RunConfig]] = {}
    for stage in stages:
        if stage.evaluates:
            made = zero_shot(stage, stages, request, series) if series else []
            found[stage.name] = [config for _, config in made]
            continue
        winner = None
        if stage.origin is not None:
            winner = winners.get(stage.origin) or max(found[stage.origin], key=price)
        if stage.space:
            known = proposed(stage, winner)
            found[stage.name] = _searched(stage, stages, request, price, winner, known)
        else:
            found[stage.name] = request.configs(stage, stages, winner)
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
    """The corner of the stage's space at which a run costs most; what costs nothing has its first value."""

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
    """Return the stage's evaluations of the untrained model, one a prompt, each with what it is called.

    `series`: how many systems are forecast, where it is not known which these are.
    """
    if not stage.zero_shot:
        return []
    config = request.configs(stage, stages)[0]
    systems = request.systems or list(range(series or 0))
    return task_of(config).untrained(config.params, stage.zero_shot, systems)
