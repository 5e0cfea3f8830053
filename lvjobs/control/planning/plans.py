"""The verdict on a study's budget: whether it fits, which stage is too expensive, plans that fit. Pure; exact integers.

Stages are assumed to run one after another, as they are declared. The interval of replay that is reserved for a run is
free again once the run is completed. So a study needs the most that is spent and reserved at once: the work of the
stages so far, and the replay of the one that runs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lvjobs.control.planning.fit import largest_multiple


@dataclass(frozen=True)
class FlopNeed:
    """FLOPs that count against the limit: `work` if nothing fails, and `replay`, reserved for one failure per run.

    Work is training, validation and evaluation.
    """

    work: int = 0
    replay: int = 0

    def __add__(self, other: "FlopNeed") -> "FlopNeed":
        return FlopNeed(self.work + other.work, self.replay + other.replay)

    @property
    def total(self) -> int:
        """Return the sum of both."""
        return self.work + self.replay


@dataclass(frozen=True)
class Demand:
    """The FLOPs that a stage still needs: `price` returns them for runs that are cut to a number of steps.

    `steps` are those of the stage's longest run. `interval` is a multiple of every run's checkpoint_every. A stage
    with runs in the ledger is not `is_new`: it can no longer be cut or left out. `start` is the last step that its runs
    need not train, because they continue others.
    """

    name: str
    runs: int
    steps: int
    interval: int
    price: Callable[[int], FlopNeed]
    is_new: bool = True
    start: int = 0

    @property
    def need(self) -> FlopNeed:
        """Return the need with all steps."""
        return self.price(self.steps)

    def most_steps(self, fits: Callable[[int], bool]) -> int:
        """Return all steps if they fit, else the most whole intervals that do; 0 if not even one does."""
        steps = self.steps if fits(self.steps) else largest_multiple(self.interval, self.steps, fits)
        return steps if steps > self.start else 0


def judge(demands: Sequence[Demand], free: int) -> dict[str, Any]:
    """Return whether the stages fit into `free` FLOPs, and if they do not, the cause and plans that fit.

    The result is a part of what `lvjobs plan --json` shows (docs/json.md). `cause` is the stage to cut, None if all
    fits or nothing can be cut. There are at most two plans: one keeps every stage, the other leaves out the first other
    stage of a single run. There is none for one stage alone: `fit.propose` proposes what fits of it.
    """
    needed = peak(demand.need for demand in demands)
    verdict: dict[str, Any] = {
        "needed": needed,
        "fits": needed <= free,
        "spare": free - needed,
        "cause": None,
        "plans": [],
    }
    new = [demand for demand in demands if demand.is_new]
    if needed <= free or not new or len(demands) == 1:
        return verdict
    enough = [demand for demand in new if _without(demands, demand) <= free]
    cause = max(enough or new, key=lambda demand: demand.need.total)
    single = next((demand for demand in new if demand.runs == 1 and demand is not cause), None)
    plans = [_plan(demands, None, cause, free), _plan(demands, single, cause, free) if single else None]
    told = {
        "stage": cause.name,
        "runs": cause.runs,
        "needs": cause.need.total,
        "rest_needs": _without(demands, cause),
        "remedies": [demand.name for demand in enough],
        "single": single.name if single else "",
    }
    return {**verdict, "cause": told, "plans": [plan for plan in plans if plan is not None]}


def room_for(demands: Sequence[Demand], free: int) -> list[dict[str, Any]]:
    """Return, for each stage that is not in the ledger yet, how many of the `steps` of its runs fit by itself (`fits`).

    `free` is in FLOPs. Fewer steps than declared are whole checkpoint intervals; 0: none fit.
    """

    def most(demand: Demand) -> int:
        return demand.most_steps(lambda steps: demand.price(steps).total <= free)

    return [
        {"stage": demand.name, "runs": demand.runs, "steps": demand.steps, "fits": most(demand)}
        for demand in demands
        if demand.is_new
    ]


def peak(needs: Iterable[FlopNeed]) -> int:
    """Return the most FLOPs that are spent and reserved at once, by stages one after another without failures."""
    most = done = 0
    for need in needs:
        done += need.work
        most = max(most, done + need.replay)
    return most


def _without(demands: Sequence[Demand], left_out: Demand) -> int:
    return peak(demand.need for demand in demands if demand is not left_out)


def _plan(demands: Sequence[Demand], left_out: Demand | None, cut: Demand, free: int) -> dict[str, Any] | None:
    """Return the plan without `left_out`, with as many steps of `cut` as fit; None if no step fits.

    It takes at most `needed` FLOPs at once, and leaves `spare` FLOPs for further failures.
    """
    kept = [demand for demand in demands if demand is not left_out]

    def needed(steps: int) -> int:
        return peak(demand.price(steps) if demand is cut else demand.need for demand in kept)

    steps = cut.most_steps(lambda steps: needed(steps) <= free)
    if not steps:
        return None
    parts = [_part(demand, steps if demand is cut else demand.steps) for demand in kept]
    return {
        "left_out": [left_out.name] if left_out else [],
        "stages": parts,
        "work": sum(part["work"] for part in parts),
        "needed": needed(steps),
        "spare": free - needed(steps),
    }


def _part(demand: Demand, steps: int) -> dict[str, Any]:
    shown = {"name": demand.name, "runs": demand.runs, "steps": steps, "asked_steps": demand.steps}
    return {**shown, **asdict(demand.price(steps))}
