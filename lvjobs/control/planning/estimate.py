"""The cost of runs before any is submitted: FLOPs by each convention, time, and disk space. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lvjobs.control.budget.accounts import Account, Books, ForecastsElsewhere, Terms
from lvjobs.control.budget.cost import replay_of_an_interval, work_ahead
from lvjobs.control.budget.pace import Pace, Stopwatch, makespan
from lvjobs.control.planning.plans import Demand, FlopNeed, judge
from lvjobs.flops.conventions import BINDING
from lvjobs.ledger.records import RunRecord, WorkCounts
from lvjobs.study.parent import start_of
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Prune
from lvjobs.study.words import HeldFor, RunState
from lvjobs.sweep.pruning import dearest, rungs
from lvjobs.tasks.registry import task_of

PARTS = ("training", "validation", "evaluation", "replay")


@dataclass(frozen=True)
class Cell:
    """One run, declared or to be declared, with its account if the ledger has it.

    `series` counts the held-out systems that the run forecasts once it is trained, and `elsewhere` has its forecasts
    from other origins. `checkpoint` is the step of its newest checkpoint. `same_as` names an earlier stage that trains
    the same run: it costs nothing more here.
    """

    run: RunRecord
    series: int = 0
    account: Account | None = None
    checkpoint: int = 0
    same_as: str = ""
    elsewhere: Sequence[ForecastsElsewhere] = ()

    def work(self, part: str, stop_at: int = 0) -> WorkCounts:
        """Return all work of one part (of `PARTS`), from the run's beginning to `stop_at` (0: to its end).

        Forecasts from other origins have other rates, and are not part of it.

        `replay` is the checkpoint interval that is reserved for one failure.
        """
        if part == "replay":
            return replay_of_an_interval(self.run.config, 0)
        if part == "evaluation":
            series = 0 if stop_at else self.series
            return WorkCounts(generation=series + work_ahead(self.run.config, 0, stop_at).generation)
        ahead = work_ahead(self.run.config, 0, stop_at)
        return WorkCounts(training=ahead.training) if part == "training" else WorkCounts(validation=ahead.validation)

    def flops(self, convention: str, part: str, stop_at: int = 0) -> int:
        """Return the FLOPs of one part, whether or not it counts, by a convention of which the run has rates."""
        terms = Terms(limit=0, convention=convention)
        moved = self.elsewhere if part == "evaluation" and not stop_at else ()
        return terms.price(self.run, self.work(part, stop_at)) + sum(each.price(terms) for each in moved)

    def need(self, terms: Terms, stop_at: int = 0) -> FlopNeed:
        """Return the FLOPs that the run needs until `stop_at` (0: its end), beyond what is spent or reserved already.

        A run that stops before its end is not evaluated.
        """
        need = FlopNeed(0 if stop_at else self.evaluation(terms))
        is_pruned = self.run.held_for is HeldFor.PRUNED
        if self.same_as or self.run.state.is_final or is_pruned:
            return need
        if self.account is not None and self.account.reserved is not None:
            config, at = self.run.config, self.run.stop_at
            later = work_ahead(config, at, stop_at) if at else WorkCounts()
            lacking = WorkCounts()
            if self.run.state is RunState.INTERRUPTED:  # it may continue from a rung: the next pass reserves the rest
                lacking = work_ahead(config, self.checkpoint, stop_at).beyond(self.account.outstanding)
            return need + FlopNeed(max(terms.price(self.run, each) for each in (later, lacking)))
        ahead = work_ahead(self.run.config, self.checkpoint, stop_at)
        replay = replay_of_an_interval(self.run.config, self.checkpoint)
        return need + FlopNeed(terms.price(self.run, ahead), terms.price(self.run, replay))

    def evaluation(self, terms: Terms) -> int:
        """Return the counted FLOPs of the forecasts that the run has not made yet. No reservation covers them."""
        made = self.account.executed.generation if self.account else 0
        is_wanted = self.run.state is not RunState.CANCELLED and not self.same_as
        if not is_wanted:
            return 0
        own = terms.price(self.run, WorkCounts(generation=max(0, self.series - made)))
        return own + sum(each.price(terms) for each in self.elsewhere)

    @property
    def all_series(self) -> int:
        """Return the series that the run forecasts, over all origins."""
        return self.series + sum(each.series for each in self.elsewhere)

    def cut(self, steps: int) -> "Cell":
        """Return the cell with at most so many steps."""
        if steps >= self.run.steps:
            return self
        return replace(self, run=replace(self.run, config={**self.run.config, "steps": steps}), same_as="")

    @property
    def checkpoint_bytes(self) -> int:
        """Return the bytes of one checkpoint, as the run's task estimates them."""
        return task_of(self.run.config).checkpoint_bytes(self.run.params)

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of the checkpoints that stay on disk.

        These are the last ones, the best, and that of the end of the stable phase (`Task.stable_until`).
        """
        config, steps = self.run.config, self.run.steps
        written = -(-(steps - start_of(config)) // self.run.checkpoint_every)
        kept = min(written, int(config["keep_last"]) + bool(config["keep_best"]))
        stable = task_of(config).stable_until(self.run.params, steps) or 0
        return (kept + (start_of(config) < stable < steps)) * self.checkpoint_bytes


@dataclass(frozen=True)
class StageCells:
    """The runs of one stage. `halving` is its rule of that kind, if it has one, and `seeds` the runs of a candidate."""

    name: str
    cells: Sequence[Cell]
    halving: Prune | None = None
    seeds: int = 1

    def flops(self, convention: str, part: str) -> int:
        """Return the FLOPs of one part, by a convention of which every run has rates."""
        return self.sum(lambda cell, stop_at: cell.flops(convention, part, stop_at))

    def phases(self, paces: Sequence[Pace]) -> list[list[float]]:
        """Return the seconds of each run, and after each rung those of the longest runs that may continue from it."""
        if self.halving is None:
            return [[pace.of_run(cell.run.config) for cell, pace in zip(self.cells, paces, strict=True)]]
        found = []
        ends = [[0, *rungs(self.halving, cell.run.steps), 0] for cell in self.cells]
        for level, keep in enumerate([len(self.cells), *(count * self.seeds for count in self.halving.keep)]):
            seconds = [
                pace.of_run(cell.run.config, own[level], own[level + 1])
                for cell, pace, own in zip(self.cells, paces, ends, strict=True)
            ]
            found.append(sorted(seconds, reverse=True)[:keep] if level else seconds)
        return found

    def sum(self, price: Callable[[Cell, int], int], cells: Sequence[Cell] | None = None) -> int:
        """Return the sum over the runs. By halving, the runs that continue from a rung count as the dearest ones."""
        cells = self.cells if cells is None else cells
        if self.halving is None:
            return sum(price(cell, 0) for cell in cells)
        steps = [cell.run.steps for cell in cells]
        return dearest(self.halving, steps, lambda place, stop_at: price(cells[place], stop_at), self.seeds)

    def demand(self, terms: Terms) -> Demand:
        """Return what the stage still needs, as a function of its steps."""
        return Demand(
            self.name,
            len(self.cells),
            max(cell.run.steps for cell in self.cells),
            math.lcm(*(cell.run.checkpoint_every for cell in self.cells)),
            partial(self._need, terms),
            is_new=all(cell.account is None for cell in self.cells),
            start=max(start_of(cell.run.config) for cell in self.cells),
        )

    def _need(self, terms: Terms, steps: int) -> FlopNeed:
        cells = [cell.cut(steps) for cell in self.cells]
        work = self.sum(lambda cell, stop_at: cell.need(terms, stop_at).work, cells)
        return FlopNeed(work, sum(cell.need(terms).replay for cell in cells))


@dataclass(frozen=True)
class ClusterCapacity:
    """The room for runs: the GPUs of one job, and how many jobs run at once (None: all of them).

    `pack` runs share a job, `side_by_side` of them at a time.
    """

    gpus: int = 0
    at_once: int | None = None
    pack: int = 1
    side_by_side: int = 1

    def jobs(self, seconds: Sequence[float]) -> list[float]:
        """Return the seconds of each job, for runs that take `seconds`."""
        packs = [seconds[first : first + self.pack] for first in range(0, len(seconds), self.pack)]
        return [makespan(pack, self.side_by_side) for pack in packs]


def sketch(config: RunConfig, rates: Mapping[str, Mapping[str, int]], stage: str = "", profile: str = "") -> RunRecord:
    """Return a record of a run that is not in the ledger, with the fields that its cost depends on."""
    return RunRecord(
        id="",
        name="",
        stage=stage,
        fingerprint=config.fingerprint,
        config=config.model_dump(mode="json"),
        profile=profile,
        resources={},
        code="",
        created=0.0,
        rates=rates,
    )


def estimate(
    stages: Sequence[StageCells], books: Books, stopwatch: Stopwatch, place: ClusterCapacity
) -> dict[str, Any]:
    """Return what `lvjobs plan --json` shows, without the study. FLOPs and bytes are integers, times whole seconds.

    A stage's `step_seconds` is the exception: it is a float.
    """
    terms = books.terms
    known = [name for name in BINDING if all(name in cell.run.rates for stage in stages for cell in stage.cells)]
    rows = [_row(stage, known, stopwatch, place) for stage in stages]
    return {
        "convention": terms.convention,
        "counts_inference": terms.counts_inference,
        "limit": terms.limit,
        "spent": books.spent,
        "reserved": books.reserved,
        "free": books.free,
        "conventions": known,
        "stages": rows,
        "total": _total(rows, known),
        **judge([stage.demand(terms) for stage in stages], books.free),
        "needed_for_evaluation": sum(cell.evaluation(terms) for stage in stages for cell in stage.cells),
        "reuse": _reuse(stages, terms),
    }


def _row(stage: StageCells, conventions: Sequence[str], stopwatch: Stopwatch, place: ClusterCapacity) -> dict[str, Any]:
    cells = stage.cells
    return {
        "name": stage.name,
        "runs": len(cells),
        "existing": sum(cell.account is not None for cell in cells),
        "steps": stage.sum(lambda cell, stop_at: cell.work("training", stop_at).training),
        "windows": stage.sum(lambda cell, stop_at: cell.work("validation", stop_at).validation),
        "series": stage.sum(lambda cell, stop_at: 0 if stop_at else cell.all_series),
        **{part: {name: stage.flops(name, part) for name in conventions} for part in PARTS},
        **_times(stage, [stopwatch.pace(cell.run) for cell in cells], place),
        "checkpoint_bytes": max(cell.checkpoint_bytes for cell in cells),
        "kept_bytes": sum(cell.kept_bytes for cell in cells),
    }


def _times(stage: StageCells, paces: Sequence[Pace | None], place: ClusterCapacity) -> dict[str, Any]:
    """Return the seconds of the longest step, of the longest run and of the stage; None if a run's pace is unknown."""
    known = [pace for pace in paces if pace is not None]
    if len(known) < len(paces):
        keys = ("time_source", "time_from", "step_seconds", "run_seconds", "stage_seconds", "gpu_seconds")
        return dict.fromkeys(keys)
    seconds = [pace.of_run(cell.run.config) for cell, pace in zip(stage.cells, known, strict=True)]
    phases = [place.jobs(each) for each in stage.phases(known)]
    scaled = next((pace for pace in known if pace.source == "scaled"), None)
    worst = scaled or next((pace for pace in known if pace.source == "given"), known[0])
    return {
        "time_source": worst.source,
        "time_from": worst.of or None,
        "step_seconds": max(pace.step for pace in known),
        "run_seconds": math.ceil(max(seconds)),
        "stage_seconds": math.ceil(sum(makespan(jobs, place.at_once) for jobs in phases)),
        "gpu_seconds": math.ceil(sum(map(sum, phases)) * place.gpus),
    }


def _total(rows: Sequence[Mapping[str, Any]], conventions: Sequence[str]) -> dict[str, Any]:
    counts = ("runs", "existing", "steps", "windows", "series", "stage_seconds", "gpu_seconds", "kept_bytes")
    return {
        **{key: _sum(row[key] for row in rows) for key in counts},
        **{part: {name: _sum(row[part][name] for row in rows) for name in conventions} for part in PARTS},
    }


def _reuse(stages: Sequence[StageCells], terms: Terms) -> list[dict[str, Any]]:
    """Return how many runs of each stage an earlier stage trains already, and the FLOPs that this saves."""
    shared: dict[tuple[str, str], list[int]] = {}
    for stage in stages:
        for cell in stage.cells:
            if cell.same_as:
                shared.setdefault((stage.name, cell.same_as), []).append(replace(cell, same_as="").need(terms).work)
    return [
        {"stage": stage, "same_as": origin, "runs": len(saved), "saves": sum(saved)}
        for (stage, origin), saved in shared.items()
    ]


def _sum(values: Iterable[int | None]) -> int | None:
    """Return the sum; None if one value is None."""
    found = list(values)
    return None if None in found else sum(value or 0 for value in found)
