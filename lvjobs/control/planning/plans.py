"""The verdict on a study's budget: whether it fits, which stage is too expensive, plans that fit. Pure; exact integers.

Stages are assumed to run one after another, as they are declared. The interval of replay that is reserved for a run is
free again once the run is completed. So a study needs the most that is spent and reserved at once: the work of the
stages so far, and the replay of the one that runs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
    with runs in the ledger is not `is_new`: it can no longer be cut or left out.
    """

    name: str
    runs: int
    steps: int
    interval: int
    price: Callable[[int], FlopNeed]
    is_new: bool = True

    @property
    def need(self) -> FlopNeed:
        """Return the need with all steps."""
        return self.price(self.steps)

    def most_steps(self, fits: Callable[[int], bool]) -> int:
        """Return all steps if they fit, else the most whole intervals that do; 0 if not even one does."""
        return self.steps if fits(self.steps) else largest_multiple(self.interval, self.steps, fits)


@dataclass(frozen=True)
class Part:
    """One stage in a plan. `asked_steps` are the declared steps of its longest run."""

    name: str
    runs: int
    steps: int
    asked_steps: int
    need: FlopNeed


@dataclass(frozen=True)
class Plan:
    """Stages that fit. They take at most `needed` FLOPs at once, and leave `spare` FLOPs for further failures."""

    parts: Sequence[Part]
    left_out: Sequence[str]
    needed: int
    spare: int

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, as `lvjobs estimate --json` shows it."""
        return {
            "left_out": list(self.left_out),
            "stages": [
                {
                    "name": part.name,
                    "runs": part.runs,
                    "steps": part.steps,
                    "asked_steps": part.asked_steps,
                    "work": part.need.work,
                    "replay": part.need.replay,
                }
                for part in self.parts
            ],
            "work": sum(part.need.work for part in self.parts),
            "needed": self.needed,
            "spare": self.spare,
        }


@dataclass(frozen=True)
class BudgetVerdict:
    """The verdict on whether a study fits, with the cause and plans if it does not.

    `cause` is the stage to cut, None if all fits or nothing can be cut. `remedies` name the stages that suffice: if
    any one of them is left out, the rest fits. `rest` is what is needed without `cause`. `whole` is the plan that keeps
    every stage. `reduced` is the plan that leaves out `without`, the first other stage of a single run. A plan is None
    if there is no such stage, or no plan fits.
    """

    needed: int
    free: int
    cause: Demand | None = None
    remedies: Sequence[str] = ()
    rest: int = 0
    whole: Plan | None = None
    without: str = ""
    reduced: Plan | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, as `lvjobs estimate --json` shows it."""
        cause = self.cause
        return {
            "needed": self.needed,
            "fits": self.needed <= self.free,
            "spare": self.free - self.needed,
            "cause": cause
            and {
                "stage": cause.name,
                "runs": cause.runs,
                "needs": cause.need.total,
                "rest_needs": self.rest,
                "remedies": list(self.remedies),
                "single": self.without,
            },
            "plans": [plan.as_dict() for plan in (self.whole, self.reduced) if plan is not None],
        }


def judge(demands: Sequence[Demand], free: int) -> BudgetVerdict:
    """Return whether the stages fit into `free` FLOPs, and plans that fit if they do not.

    There is no plan for one stage alone: `fit.propose` proposes what fits of it.
    """
    needed = peak(demand.need for demand in demands)
    new = [demand for demand in demands if demand.is_new]
    if needed <= free or not new or len(demands) == 1:
        return BudgetVerdict(needed, free)
    remedies = [demand for demand in new if _without(demands, demand) <= free]
    cause = max(remedies or new, key=lambda demand: demand.need.total)
    single = next((demand for demand in new if demand.runs == 1 and demand is not cause), None)
    return BudgetVerdict(
        needed,
        free,
        cause,
        [demand.name for demand in remedies],
        _without(demands, cause),
        _plan(demands, None, cause, free),
        single.name if single else "",
        _plan(demands, single, cause, free) if single else None,
    )


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


def _plan(demands: Sequence[Demand], left_out: Demand | None, cut: Demand, free: int) -> Plan | None:
    """Return the plan without `left_out`, with as many steps of `cut` as fit; None if no step fits."""
    kept = [demand for demand in demands if demand is not left_out]

    def needed(steps: int) -> int:
        return peak(demand.price(steps) if demand is cut else demand.need for demand in kept)

    steps = cut.most_steps(lambda steps: needed(steps) <= free)
    if not steps:
        return None
    cut_to = [(demand, steps if demand is cut else demand.steps) for demand in kept]
    parts = [Part(each.name, each.runs, most, each.steps, each.price(most)) for each, most in cut_to]
    return Plan(parts, [left_out.name] if left_out else [], needed(steps), free - needed(steps))
