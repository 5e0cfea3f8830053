"""Stages: the runs that are compared, and the choice of the winner."""

import re
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lvjobs.study.fields import Int
from lvjobs.study.params import SPLIT, PromptName
from lvjobs.study.run import FOLD, NAME
from lvjobs.study.space import Search, Values, read_search, read_space
from lvjobs.study.tables import SettingsTable

WORDS = ("all", "plan", "show", "retry", "stop")
"""Words after `lvjobs sweep` that name no stage."""

LOSSES = ("validation_loss", "training_loss")
VALIDATION_MAE = "validation_mae"
"""Metrics that every training has, each of its own objective."""
ERRORS = (VALIDATION_MAE, "mae")
"""The error of a training's own forecasts, by its name here and in journals. Only with `validation_forecasts`."""

At: TypeAlias = Literal["last", "best"]


class Select(SettingsTable):
    """The choice of a stage's winner.

    `metric` is a metric in the runs' journals: `validation_loss`, `training_loss`, or a name that a user's own function
    reports. It is never an error on the scored series: choosing by those would make them a training set.
    """

    metric: str = Field(default="validation_loss", min_length=1, description="metric in the runs' journals")
    mode: Literal["min", "max"] = Field(default="min", description="whether the lowest or the highest value wins")
    at: Int | At = Field(default="last", description="compare last values, best values, or those at a step")
    ties: Literal["cheapest", "first"] = Field(
        default="cheapest", description="which of equal runs wins; first: the first declared"
    )

    @field_validator("at", mode="before")
    @classmethod
    def _at(cls, value: Any) -> Any:
        if (
            isinstance(value, str)
            and value not in ("last", "best")
            and not re.fullmatch(r"[\d_]+(\.0*)?(e\d+)?", value)
        ):
            raise ValueError("write last, best, or a step")
        return value

    @property
    def words(self) -> str:
        """Return a text such as `lowest validation_loss at step 500`."""
        extreme = "lowest" if self.mode == "min" else "highest"
        where = {"last": "the end", "best": "its best"}.get(str(self.at), f"step {self.at}")
        return f"{extreme} {self.metric} at {where}"


_AT: list[str | float] = ["2/9"]
_KEEP = [3]
"""The rung of `halving` where a study names none: measured in benchmarks/searching.py."""


class Prune(SettingsTable):
    """The pruning of runs that compare badly before their last step. `lvjobs.sweep.pruning` has the meaning.

    `halving`: all runs train to a share `at` of their steps, and wait there; the best `keep` continue, by the mean of
    the metric from half of that step on. Several shares make several rungs, the first of them the lowest. The cost is
    known beforehand.

    The other two are Optuna's pruners, which wait for no run. `successive_halving` (ASHA): at the steps first, first *
    factor, first * factor ** 2, ... a run continues if it is among the best 1/factor of those that came so far.
    `median`: at each multiple of `first`, it continues if it is no worse than the median of the completed runs there.
    """

    rule: Literal["halving", "successive_halving", "median"] = Field(
        default="successive_halving", description="pruning rule"
    )
    at: list[str | float] = Field(
        default_factory=lambda: list(_AT), description="halving: shares of a run's steps at which runs are compared"
    )
    keep: list[Int] = Field(
        default_factory=lambda: list(_KEEP), description="halving: how many continue at each of them, best first"
    )
    first: Int | None = Field(default=None, gt=0, description="the others: step at which runs are first compared")
    factor: Int = Field(default=3, gt=1, description="successive_halving: one of this number of runs continues")

    @model_validator(mode="before")
    @classmethod
    def _former_name(cls, values: Any) -> Any:
        """Read `kind`, the former name of `rule`; refuse keys of halving where no rule is named."""
        if isinstance(values, dict) and not {"rule", "kind"} & values.keys() and {"at", "keep"} & values.keys():
            raise ValueError('prune.at and prune.keep are of halving: add rule = "halving"')
        if isinstance(values, dict) and "kind" in values and "rule" not in values:
            return {**{key: value for key, value in values.items() if key != "kind"}, "rule": values["kind"]}
        return values

    @model_validator(mode="after")
    def _fits_its_rule(self) -> "Prune":
        if self.rule != "halving":
            if self.first is None:
                raise ValueError(f"prune.rule = {self.rule!r} needs a step: first = 100")
            if (self.at, self.keep) != (_AT, _KEEP):
                raise ValueError(f'prune.at and prune.keep are of rule = "halving", not of {self.rule!r}')
            return self
        if self.first is not None or self.factor != type(self).model_fields["factor"].default:
            raise ValueError('prune.first and prune.factor are not of rule = "halving": give at = ["2/9"], keep = [3]')
        shares = self.shares
        if not shares or len(shares) != len(self.keep):
            raise ValueError("prune.at and prune.keep need as many values each, at least one")
        if sorted(set(shares)) != shares or not 0 < shares[0] <= shares[-1] < 1:
            raise ValueError(f"prune.at = {self.at}: shares between 0 and 1, each larger than the one before")
        if min(self.keep) < 1 or sorted(self.keep, reverse=True) != self.keep:
            raise ValueError(f"prune.keep = {self.keep}: whole numbers from 1 on, none larger than the one before")
        return self

    @property
    def shares(self) -> list[Fraction]:
        """Return `at` as fractions. Raises ValueError for a value that is none."""
        try:
            return [Fraction(str(each)) for each in self.at]
        except (ValueError, ZeroDivisionError):
            raise ValueError(f'prune.at = {self.at}: write each share as "2/9" or 0.25') from None


class Stage(SettingsTable):
    """A set of runs that are compared, or of evaluations (docs/sweeps.md). Without any, the published study's stages.

    Its runs are every combination of the `grid`'s values.

    Instead of a `grid` it may have a `space`, from which a sampler proposes trials one after another (`search`).

    A stage `from` another begins when the other's winner is known. It takes over what the other stage varied, set or
    took over itself (or only the keys of `take`), and with `continue` the winner's checkpoint, too. It also waits for
    the stages in `after`. `seeds` trains each combination once per seed, and compares means. `on_hold` decides whether
    a held run blocks the stage, or is left out once at least `quorum` combinations are done (None: one).

    `prune` pauses runs that compare badly before their last step; the user can resume them.

    `zero_shot` (prompts, of the base model) and `evaluate` (stages, of all their runs) make it a stage of evaluations.
    """

    name: str = Field(description="letters, digits, `.`, `_`, `+`, `-`")
    origin: str | None = Field(
        default=None,
        alias="from",
        description="stage whose winner's settings this stage uses; this stage waits for it",
    )
    continues: bool = Field(
        default=False,
        alias="continue",
        description="train on from that winner's checkpoint; steps count from its first step",
    )
    take: list[str] | None = Field(
        default=None,
        description="keys to take over; default: all that the other stage varied, set or took over",
    )
    after: list[str] = Field(default_factory=list, description="other stages to wait for")
    grid: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="keys of [train], each with a list of values: one run per combination",
    )
    space: dict[str, Values] = Field(
        default_factory=dict,
        description="instead of a grid: lists or ranges, from which a sampler chooses",
    )
    search: Search | None = Field(default=None, description="sampler of the space, and its number of trials")
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of [train] with one value for all runs",
    )
    steps: Int | None = Field(default=None, gt=0, description="optimizer steps of each run; default: those of [train]")
    seeds: list[Int] | None = Field(
        default=None,
        min_length=1,
        description="train each combination once per seed, and compare means; default: one seed",
    )
    select: Select = Field(default=Select(), description="how the winner is chosen")
    prune: Prune | None = Field(
        default=None,
        description="pause runs that compare badly before their last step; default: none",
    )
    on_hold: Literal["wait", "skip"] = Field(default="wait", description="a held run blocks the stage, or is left out")
    quorum: Int | None = Field(
        default=None, gt=0, description="with on_hold skip: combinations that have to finish; default: 1"
    )
    zero_shot: list[PromptName] = Field(default_factory=list, description="evaluate the base model with these prompts")
    evaluate: list[str] = Field(default_factory=list, description="evaluate each run of these stages")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError("a stage's name is letters, digits, '.', '_', '+', '-'; choose another")
        if value in WORDS:
            raise ValueError(f"{value!r} means something else after `sweep`; give the stage another name")
        return value

    @field_validator("space", mode="before")
    @classmethod
    def _space(cls, value: Any, info: ValidationInfo) -> Any:
        return read_space(value, info.data.get("name", ""))

    @field_validator("search", mode="before")
    @classmethod
    def _search(cls, value: Any, info: ValidationInfo) -> Any:
        return read_search(value, info.data.get("name", ""))

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Stage":
        trains: dict[str, Any] = {"from": self.origin, "grid": self.grid, "steps": self.steps, "seeds": self.seeds}
        trains |= {"take": self.take, "prune": self.prune, "space": self.space, "search": self.search}
        trains |= {"continue": self.continues}
        trained = next((key for key, value in trains.items() if value), None)
        own = {*self.set, *(["steps"] if self.steps is not None else [])}
        twice = next((key for key in self.space if key in own), None)
        ends = self.select != Select() or self.quorum is not None
        split = next((key for key in (*SPLIT, FOLD) if key in self.set), None)
        problems = {
            f"evaluates, and {trained} is of stages that train; leave one out": self.evaluates and trained,
            "evaluates runs, so it has no winner: leave select and quorum out": self.evaluates and ends,
            f"has take = {self.take} but no stage to take from; add from = ...": self.take is not None
            and self.origin is None,
            "has continue = true but no winner to continue; add from = ...": self.continues and self.origin is None,
            "has continue = true and a space: a search continues no checkpoint; give it a grid": self.continues
            and self.space,
            "has continue = true and prune, which compares runs from their first step; leave one out": self.continues
            and self.prune,
            "has its seeds twice; leave seed out of grid and set": self.seeds and "seed" in {*self.grid, *self.set},
            "has a grid and a space; leave one out": self.grid and self.space,
            "has a space but no number of trials; add search = { trials = 20 }": self.space and not self.search,
            "has nothing to search: give it a space, or leave search out": self.search and not self.space,
            'searches one trial after another, and prune.rule = "halving" waits for all runs: give it a grid': (
                self.space and self.prune and self.prune.rule == "halving"
            ),
            "searches seed: give it seeds = [...], and means are compared": "seed" in self.space,
            f"searches {FOLD}, which is a part of the data: have all folds in a grid": FOLD in self.space,
            f'has folds in its grid, and prune.rule = "{self.prune.rule if self.prune else ""}" compares single runs: '
            'take rule = "halving", which compares means over folds': (
                FOLD in self.grid and self.prune and self.prune.rule != "halving"
            ),
            f"evaluates runs by their own split, and sets {split}; leave it out": self.evaluate and split,
            f"searches {twice}, and sets it; leave one out": twice,
        }
        for problem, is_there in problems.items():
            if is_there:
                raise ValueError(f"stage {self.name} {problem}")
        return self

    @property
    def evaluates(self) -> bool:
        """Return whether its runs are evaluations."""
        return bool(self.zero_shot or self.evaluate)

    @property
    def varied(self) -> list[str]:
        """Return the keys in which its runs differ, except the seed."""
        return [*self.grid, *self.space]

    @property
    def repeats(self) -> int:
        """Return the number of runs of a candidate: with each of its seeds, each fold of a grid that has folds."""
        return len(self.seeds or [0]) * len(self.grid.get(FOLD) or [0])

    @property
    def awaited(self) -> list[str]:
        """Return the stages that must be decided before it begins. Evaluations follow each run by itself."""
        return [*([self.origin] if self.origin else []), *self.after]

    @property
    def neighbours(self) -> list[str]:
        """Return all stages that it names."""
        return [*self.awaited, *self.evaluate]
