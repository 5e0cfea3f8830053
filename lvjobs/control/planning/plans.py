"""Whether a study fits its budget, which stage is the cause where it does not, and plans that do. Pure; exact integers.

Stages are taken to run one after another, as they are declared. The interval of replay that is set aside for a run is
free again once the run is completed, so what a study needs is the most that is spent and set aside at once: the work
of the stages so far, and the replay of the one that runs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.control.planning.fit import largest_multiple


@dataclass(frozen=True)
class FlopNeed:
    """FLOPs that go against the limit: `work` if nothing dies, and the `replay` that is set aside for one death a run.

    Work is training, validation and evaluation.
    """

    work: int = 0
    replay: int = 0

    def __add__(self, other: "FlopNeed") -> "FlopNeed":
        return FlopNeed(self.work + other.work, self.replay + other.replay)

    @property
    def total(self) -> int:
        """Both."""
        return self.work + self.replay


@dataclass(frozen=True)
class Demand:
    """What a stage still takes. `price` gives it for runs that are cut to so many steps; `steps` are its longest run's.

    `interval` is a multiple of every run's checkpoint_every. A stage of which runs are in the ledger already is not
    `is_new`: it can no longer be cut or left out.
    """

    name: str
    runs: int
    steps: int
    interval: int
    price: Callable[[int], FlopNeed]
    is_new: bool = True

    @property
    def need(self) -> FlopNeed:
        """With all steps."""
        return self.price(self.steps)


@dataclass(frozen=True)
class Part:
    """One stage in a plan; `asked_steps` are those of its longest run as declared."""

    name: str
    runs: int
    steps: int
    asked_steps: int
    need: FlopNeed


@dataclass(frozen=True)
class Plan:
    """Stages that fit: `needed` FLOPs at most at once, which leaves `spare` ones for deaths beyond the last stage's."""

    parts: Sequence[Part]
    left_out: Sequence[str]
    needed: int
    spare: int

    def as_dict(self) -> dict[str, Any]:
        """As `lvjobs estimate --json` shows it."""
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
    """Whether a study fits, and where it does not: why, and what would.

    `cause` is the stage to cut, None where all fits or nothing can be cut; `remedies` are the stages without any one
    of which the rest fits, and `rest` is what is needed without `cause`. `plans`: one that keeps every stage, and one
    without `without`, the first stage that is a single run; None where it does not exist, or nothing of it fits.
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
        """As `lvjobs estimate --json` shows it."""
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
    """Whether what the stages still take fits into `free` FLOPs, and plans that do where it does not.

    For one stage alone there is no plan to make: `fit.propose` says what fits of it.
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


@dataclass(frozen=True)
class StageRoom:
    """How far what is free would go for a stage that has not begun: `fits` of the `steps` of its `runs`, 0 for none."""

    stage: str
    runs: int
    steps: int
    fits: int


def room_for(demands: Sequence[Demand], free: int) -> list[StageRoom]:
    """For each stage that is not in the ledger yet, by itself: the most steps that fit, in whole intervals."""

    def most(demand: Demand) -> int:
        if demand.need.total <= free:
            return demand.steps
        return largest_multiple(demand.interval, demand.steps, lambda steps: demand.price(steps).total <= free)

    return [StageRoom(demand.name, demand.runs, demand.steps, most(demand)) for demand in demands if demand.is_new]


def peak(needs: Iterable[FlopNeed]) -> int:
    """The most FLOPs that are spent and set aside at once, by stages one after another in which nothing dies."""
    most = done = 0
    for need in needs:
        done += need.work
        most = max(most, done + need.replay)
    return most


def _without(demands: Sequence[Demand], left_out: Demand) -> int:
    return peak(demand.need for demand in demands if demand is not left_out)


def _plan(demands: Sequence[Demand], left_out: Demand | None, cut: Demand, free: int) -> Plan | None:
    """Without `left_out`, and with as many steps of `cut` as fit."""
    kept = [demand for demand in demands if demand is not left_out]

    def needed(steps: int) -> int:
        return peak(demand.price(steps) if demand is cut else demand.need for demand in kept)

    steps = cut.steps
    if needed(steps) > free:
        steps = largest_multiple(cut.interval, cut.steps, lambda steps: needed(steps) <= free)
    if not steps:
        return None
    parts = [_part(demand, steps if demand is cut else demand.steps) for demand in kept]
    return Plan(parts, [left_out.name] if left_out else [], needed(steps), free - needed(steps))


def _part(demand: Demand, steps: int) -> Part:
    return Part(demand.name, demand.runs, steps, demand.steps, demand.price(steps))
