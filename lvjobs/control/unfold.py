"""All runs of a study's stages, also of those whose ground is not known yet: as if the dearest run won. Pure."""

from collections.abc import Callable, Mapping, Sequence

from lvjobs.control.evaluations import Trial, evaluation
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.study.training import TrainingConfig
from lvjobs.sweep.request import Request


def unfold(
    stages: Sequence[Stage],
    request: Request,
    price: Callable[[RunConfig], int],
    winners: Mapping[str, RunConfig],
    series: int,
) -> dict[str, list[RunConfig]]:
    """The configurations of each stage's runs, by its name; `stages` in order. Evaluations of runs are not among them.

    Where a stage's winner is not known, later stages are built on the run with the highest `price`: what they may
    cost at most. `series` are the held-out systems of an evaluation; 0 for none.
    """
    found: dict[str, list[RunConfig]] = {}
    for stage in stages:
        if stage.evaluates:
            found[stage.name] = zero_shot(stage, stages, request, series) if series else []
            continue
        winner = None
        if stage.origin is not None:
            winner = winners.get(stage.origin) or max(found[stage.origin], key=price)
        found[stage.name] = request.configs(stage, stages, winner)
    return found


def zero_shot(stage: Stage, stages: Sequence[Stage], request: Request, series: int | None = None) -> list[RunConfig]:
    """Evaluations of the base model, one a prompt; of `series` systems where it is not known which these are."""
    if not stage.zero_shot:
        return []
    training = TrainingConfig.model_validate(request.configs(stage, stages)[0].params)
    systems = request.systems or list(range(series or 0))
    return [evaluation(training, Trial(), systems, prompt=prompt) for prompt in stage.zero_shot]
