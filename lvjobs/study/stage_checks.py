"""The checks of a stage of study.toml against [train]: its keys, its metric, and what its program gets. Pure."""

from lvjobs import remedies
from lvjobs.study.params import LOSS_NAMES, OBJECTIVE, VALIDATED
from lvjobs.study.settings import OwnSettings, ProgramSettings, RunSettings, TrainSettings
from lvjobs.study.space import check_keys
from lvjobs.study.stages import ERRORS, LOSSES, VALIDATION_MAE, Stage
from lvjobs.study.suggest import nearest

METRICS = (*LOSSES, *ERRORS, *LOSS_NAMES.values())
"""The metrics of a bundled training by which a stage may choose its winner."""


def check_stage(stage: Stage, declared: RunSettings) -> None:
    """Refuse a stage that names keys which [train] (`declared`) does not have, or that its runs cannot be used for.

    Raises:
        ValueError: the message names the stage, what is wrong, and the remedy.
    """
    train = type(declared)
    if stage.evaluates and issubclass(train, OwnSettings):
        raise ValueError(
            f"stage {stage.name} evaluates forecasts, and runs of a task of your own make none: leave it out"
        )
    for does, keys in (("takes over", stage.take or ()), ("searches", stage.space)):
        if unknown := next((key for key in keys if key not in train.model_fields), None):
            near = nearest(unknown, train.model_fields)
            hint = f"; did you mean {near!r}?" if near else "; leave it out"
            raise ValueError(f"stage {stage.name} {does} {unknown!r}, which [train] does not know{hint}")
    check_keys(stage.space, stage.name, train)
    if isinstance(declared, TrainSettings):
        _check_metric(stage)
    elif isinstance(declared, ProgramSettings):
        _check_program(stage, declared)


_OR_BY_ERRORS = f"; or set validation_forecasts, and select by {VALIDATION_MAE}"


def _check_metric(stage: Stage) -> None:
    """Refuse a metric that the runs do not report, or that is of different systems, texts or objectives."""
    metric = stage.select.metric
    if metric not in METRICS:
        near = nearest(metric, METRICS)
        hint = f"did you mean {near!r}?" if near else "name one of these"
        raise ValueError(
            f"stage {stage.name} compares by {metric!r}, and its runs report no such metric ("
            f"{', '.join(METRICS)}); {hint}"
        )
    ways = [*stage.grid.items(), *stage.space.items()]
    varied = {key for key, values in ways if not isinstance(values, (list, tuple)) or len(values) > 1}
    is_loss = metric in (*LOSSES, *LOSS_NAMES.values())
    kept = OBJECTIVE if is_loss else VALIDATED if metric in ERRORS else frozenset()
    if wrong := sorted(varied & kept):
        raise ValueError(
            f"stage {stage.name} would compare runs that differ in {wrong[0]} by {metric}, which is "
            "then of two texts, two objectives or other systems; make a stage of each value, evaluate their runs, and "
            f"compare by: {remedies.EVALUATIONS}{_OR_BY_ERRORS if is_loss and wrong[0] not in VALIDATED else ''}"
        )


def _check_program(stage: Stage, train: ProgramSettings) -> None:
    """Refuse a stage that varies what its program does not get: the runs would be the same run, several times."""
    varied = {
        "seed": stage.seeds is not None and len(stage.seeds) > 1,
        "steps": stage.steps not in (None, train.steps) or "steps" in stage.set,
    }
    for key in ("seed", "steps"):
        if (varied[key] or key in {*stage.grid, *stage.space}) and key not in train.used:
            raise ValueError(
                f"stage {stage.name} varies {key}, but the command of [train] has no {{{key}}}, so its program would "
                f"not notice; write {{{key}}} into command"
            )
