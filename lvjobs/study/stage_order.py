"""The order of stages, and the settings that a stage takes over from an earlier one. Pure."""

import graphlib
from collections.abc import Collection, Sequence

from lvjobs.study.run import FOLD
from lvjobs.study.stages import Stage


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages, each after all that it names; otherwise as they are declared.

    Raises:
        ValueError: a stage that is not declared, or stages that wait for one another; the message names them.
    """
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        for other in stage.neighbours:
            if other not in by_name:
                raise ValueError(
                    f"stage {stage.name} names {other!r}, and there is no such stage; add it, or name another"
                )
            if other in stage.evaluate and by_name[other].evaluates:
                raise ValueError(
                    f"stage {stage.name} evaluates {other}, which trains nothing; name a stage that trains"
                )
    if stage_without := next((s for s in stages if s.origin and by_name[s.origin].evaluates), None):
        raise ValueError(
            f"stage {stage_without.name} is from {stage_without.origin}, which has no winner; name a stage that trains"
        )
    if alone := next((s for s in stages if s.origin and _leaves_folds(s, by_name[s.origin])), None):
        folds = by_name[alone.origin or ""].grid[FOLD]
        raise ValueError(
            f"stage {alone.name} is from {alone.origin}, which has folds in its grid, and would train fold 0 alone: "
            f'add grid = {{ {FOLD} = {folds} }} and set = {{ split = "k-fold" }}, or choose one: set = {{ {FOLD} = 0 }}'
        )
    sorter = graphlib.TopologicalSorter({stage.name: stage.neighbours for stage in stages})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise ValueError(
            f"stages wait for one another ({' -> '.join(error.args[1])}); let one of them wait for none"
        ) from None
    found: list[Stage] = []
    while len(found) < len(stages):
        names = {stage.name for stage in found}
        found.append(next(each for each in stages if each.name not in names and names.issuperset(each.neighbours)))
    return found


def _leaves_folds(stage: Stage, origin: Stage) -> bool:
    """Return whether `origin` trains folds, and `stage` takes the k-fold split over from it and names no fold."""
    return FOLD in origin.grid and not {FOLD, "split"} & {*stage.grid, *stage.set, *(stage.take or ())}


def carried(stage: Stage, stages: Collection[Stage]) -> list[str]:
    """Return the keys of [train] that a stage `from` this one takes over: not the fold of the run that won."""
    keys = dict.fromkeys([*taken(stage, stages), *stage.set, *stage.grid, *stage.space])
    return [key for key in keys if key != FOLD]


def taken(stage: Stage, stages: Collection[Stage]) -> list[str]:
    """Return the keys of [train] that this stage takes over."""
    origin = next((each for each in stages if each.name == stage.origin), None)
    if origin is None:
        return []
    return list(stage.take) if stage.take is not None else carried(origin, stages)
