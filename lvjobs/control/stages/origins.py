"""Evaluations from several forecast origins: a run for each of them, and its name. Pure."""

from collections.abc import Iterable, Sequence

from lvjobs.control.submission.declare import default_name
from lvjobs.study.run import RunConfig
from lvjobs.tasks.registry import task_of

OWN = 0
"""Stands for the origin that an evaluation has already: the training's `history_steps`."""


def from_origins(
    config: RunConfig, subject: str, origins: Iterable[int], baselines: Sequence[str] = ()
) -> list[tuple[RunConfig, str]]:
    """Return an evaluation from each of these forecast origins, once, with the names of the runs.

    Args:
        config: The evaluation from its own origin. Under that origin it stays the same run with the same name.
        subject: The name of the evaluated run or model, with which the names begin.
        origins: Numbers of observed steps, or `OWN`.
        baselines: The extra baselines of each; none: those that `config` has.
    """
    task, found = task_of(config), {}
    if baselines:
        config = task.with_baselines(config, baselines)
    for origin in origins:
        moved = task.at_origin(config, origin or task.origin(config.params))
        prefix = subject if moved.fingerprint == config.fingerprint else f"{subject}-origin-{origin}"
        found[moved.fingerprint] = moved, default_name(moved, prefix)
    return list(found.values())
