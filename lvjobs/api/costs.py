"""The cost of runs before they are submitted, and the rest of the budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.results import BudgetStatus, Estimate, Status
from lvjobs.api.settings import Overrides, located, request
from lvjobs.errors import UsageError
from lvjobs.records.summary import read_row
from lvjobs.study.config import StudyContext
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request

RUN = "train"
"""The name that stands for a single run, in place of a stage's."""


def estimate(
    study: StudyContext, what: str | None, given: Overrides, flops_per_second: float | None = None
) -> Estimate:
    """Return the cost of a run (`what` is `RUN`), of a stage (its name), or of every stage (None).

    `flops_per_second` gives the times of runs whose settings were not measured.

    Raises:
        UsageError: There is no such stage, or a value is not allowed.
    """
    asked = request(study, given, located)
    if what == RUN:
        (settings,) = asked.settings(Stage(name=RUN), ())
        return foresee_stages(study, (), asked, flops_per_second, {RUN: [settings.run_config()]})
    if not study.config.stage:
        one = remedies.ESTIMATE_TRAIN(*study.where)
        raise UsageError(f"study.toml declares no [[stage]]; add one, or type: {one}")
    chosen = study.config.stage if what is None else [study.config.stage_named(what)]
    return foresee_stages(study, chosen, asked, flops_per_second)


def foresee_stages(
    study: StudyContext,
    chosen: Sequence[Stage],
    asked: Request,
    flops_per_second: float | None = None,
    others: Mapping[str, Sequence[RunConfig]] | None = None,
) -> Estimate:
    """Return the cost of the `chosen` stages as they are requested, or of `others` (runs by stage) if given."""
    from lvjobs.control.planning.foresee import foresee, read_ledger, unfolded

    seen = read_ledger(study, updates.READ_WAIT_SECONDS)
    names = {each.name for each in chosen}
    configs = others or {name: found for name, found in unfolded(study, asked, seen).items() if name in names}
    found = foresee(study, configs, seen, asked.resources, asked.profile, flops_per_second)
    return Estimate(found["needed"], found["free"], found["fits"], found, seen.problem)


def budget(study: StudyContext, status: Status) -> BudgetStatus:
    """Return the budget of a status, and how much of each later stage the free FLOPs allow."""
    found = status.stored["budget"]
    fits, problem = _still_fits(study, status)
    return read_row(BudgetStatus, {**found, "details": found, "still_fits": fits, "problem": problem})


def _still_fits(study: StudyContext, status: Status) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Return how much of each later stage would fit, and the reason if that is not known."""
    over = {stage["name"] for stage in status.stored["stages"] if stage["state"] == "completed"}
    if all(stage.name in over for stage in study.config.stage):
        return [], ""
    from lvjobs.control.planning.foresee import read_ledger, unfolded, what_still_fits

    try:
        asked = request(study, Overrides(), located)
        seen = read_ledger(study, updates.READ_WAIT_SECONDS)
        fits = [] if seen.problem else what_still_fits(study, unfolded(study, asked, seen), seen, asked.profile)
    except UsageError as error:
        return [], f"what the declared stages would take cannot be counted: {error}"
    return fits, ""
