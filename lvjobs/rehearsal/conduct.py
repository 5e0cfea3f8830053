"""An undisturbed run, and the same run with faults that are drawn from a seed and injected into its job."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from lvjobs.control.loop import open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import LvjobsError
from lvjobs.rehearsal.attempts import checkpoints, entries_of, generations, problem
from lvjobs.rehearsal.differences import RunResult
from lvjobs.rehearsal.escapes import EscapeWatch
from lvjobs.rehearsal.faults import Fault, FaultInjector, Shape, process_faults, program_faults
from lvjobs.rehearsal.processes import RunProcesses, end_all
from lvjobs.rehearsal.saves import SavePlace
from lvjobs.rehearsal.verdict import Disturbed, Judgement, failure_of, judge, reason_of, worst
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.program.command import COMMAND_TASK, CommandConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.study.tables import Budget, Driver, Policy, Resources

NAME = "rehearsal"
CHECKPOINTS = 6
"""The number of checkpoints in a rehearsed run."""

_PASS_SECONDS = 1.0
_POLL_SECONDS = 0.02
_SHAPE_SECONDS = 0.5
"""Seconds between two counts of the processes of an undisturbed run."""

_ENOUGH = 10**6
_LONGEST_SECONDS = Policy().hung_seconds
_SHORTEST_SECONDS = 120.0
"""Seconds without a journal line after which a run hangs: at most, and at least."""

_OVER = ("completed", "held", "cancelled", "paused")


@dataclass(frozen=True)
class RehearsalReport:
    """The result: the verdict, the faults that met the run and those that did not, and the disturbed run's row.

    `breaches` and `outside` are those of `EscapeWatch`. The row is described in docs/json.md.
    """

    judgement: Judgement
    run: Mapping[str, Any]
    met: Mapping[str, int] = field(default_factory=dict)
    missed: Sequence[str] = ()
    breaches: Sequence[str] = ()
    outside: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """Return whether the run resumes with the same result, or a near one where that was allowed."""
        return self.judgement.verdict in ("bitwise", "within_tolerance") and not self.breaches


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run: its files, its processes, and its row (docs/json.md)."""

    run: RunLayout
    shape: Shape
    row: Mapping[str, Any]

    @property
    def hung_seconds(self) -> float:
        """Return the seconds of silence after which a disturbed run hangs: ten times the longest one of this run."""
        times = sorted(entry.time for number in generations(self.run) for entry in entries_of(self.run, number))
        longest = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        return min(_LONGEST_SECONDS, max(_SHORTEST_SECONDS, 10 * longest))


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal of one run.

    Attributes:
        place: The directory of the rehearsal's studies.
        config: The run, `shortened`.
        resources: What the jobs request.
        tolerance: See `lvjobs.rehearsal.verdict.judge`.
        say: Called with each event, in words.
    """

    place: Path
    config: RunConfig
    resources: Resources
    tolerance: float
    say: Callable[[str], None]

    @property
    def is_program(self) -> bool:
        """Return whether the run is a program."""
        return self.config.task == COMMAND_TASK

    def train_undisturbed(self, profile: str, name: str = "alone") -> "Undisturbed":
        """Train the run without faults, and return its files, its processes and its row.

        Raises:
            LvjobsError: it was not completed; the text gives its state.
        """
        root = self.place / name
        run = StudyLayout(root).run(NAME)
        counter = ShapeCounter(run)
        row = self.train(root, profile, counter.count)
        if row["state"] != "completed":
            raise LvjobsError(
                f"undisturbed, the run is {row['state']} at step {row['step']}: {reason_of(row)}. Fix that first. The "
                f"run is in {root}"
            )
        self.say(f"undisturbed: {row['step']} {'step' if row['step'] == 1 else 'steps'}")
        return Undisturbed(run, counter.shape, row)

    def disturb(
        self,
        alone: "Undisturbed",
        profile: str,
        faults: Mapping[str, Fault],
        *,
        chance: random.Random,
        until: float,
    ) -> RehearsalReport:
        """Train the run with faults until its end, and compare it with the undisturbed run.

        Args:
            alone: The undisturbed run.
            profile: The cluster to train on.
            faults: The faults of that cluster, to choose from beside those of the run's own processes.
            chance: The source of choices, and of the times between them.
            until: No fault is injected later (monotonic seconds).
        """
        if self.is_program and not checkpoints(alone.run):
            reason = f"undisturbed, it published no checkpoint{problem(alone.run)}"
            return RehearsalReport(Judgement("does_not_resume", reason), alone.row)
        run = StudyLayout(self.place / "disturbed").run(NAME)
        every = {**faults, **process_faults(run, alone.shape, chance)}
        if self.is_program:
            every |= program_faults(run, SavePlace.of(run, self.config))
        injector = FaultInjector(run, self.config.checkpoint_every, every, chance, until, self.say)
        compare, watch, rows = Comparison(self, alone.run, profile), EscapeWatch(run), []
        patience = alone.hung_seconds
        judgements: list[Judgement] = []
        while True:
            row, judgement = self._disturb_once(run, profile, patience, injector, watch, compare)
            rows.append(row)
            judgements.append(judgement)
            if judgement.verdict == "does_not_resume" or not injector.untested or time.monotonic() > until:
                break
            self.say(f"round {len(rows) + 1}, for: {', '.join(injector.untested)}")
            injector.begin_again()
        sums = {key: sum(row[key] for row in rows) for key in ("attempts", "replayed_steps")}
        found = {**rows[-1], **sums, "rounds": len(rows)}
        return RehearsalReport(worst(judgements), found, injector.met, injector.missed, watch.breaches, watch.outside)

    def _disturb_once(
        self,
        run: RunLayout,
        profile: str,
        patience: float,
        injector: FaultInjector,
        watch: EscapeWatch,
        compare: "Comparison",
    ) -> tuple[Mapping[str, Any], Judgement]:
        """Train the run with faults once; return its row, and the verdict."""

        def between() -> None:
            injector.inject()
            if self.is_program:
                watch.look()

        before = Counter(injector.met)
        row = self.train(self.place / "disturbed", profile, between, patience)
        watch.close()
        attempts = [entries_of(run, number) for number in sorted(generations(run))]
        met = injector.met - before
        disturbed = Disturbed(RunResult(run), row, attempts, met, self.config.checkpoint_every)
        return row, failure_of(disturbed) or compare.judge(disturbed)

    def train(
        self, root: Path, profile: str, between: Callable[[], None], patience: float = _LONGEST_SECONDS
    ) -> Mapping[str, Any]:
        """Train the run in a study of its own until it is over, and return its row; call `between` between passes.

        The study has no driver, an unlimited budget, short waits and unlimited retries, but for a run that
        hangs: one that is silent for `patience` seconds. What an earlier rehearsal left
        running there is ended first. If this one is interrupted, its run is ended too.
        """
        end_all(root)
        try:
            return self._train(root, profile, between, patience)
        except BaseException:
            end_all(root)
            raise

    def _train(self, root: Path, profile: str, between: Callable[[], None], patience: float) -> Mapping[str, Any]:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True, mode=0o700)
        limits = {key for key in Policy.model_fields if key.endswith("_retries")} - {"out_of_memory_retries"}
        policy = Policy(
            **{**dict.fromkeys(limits, _ENOUGH), "hung_retries": 1},
            hung_seconds=patience,
            no_progress_deaths=_ENOUGH,
            no_progress_preemptions=_ENOUGH,
            backoff_seconds=1,
            unclear_seconds=3,
            lost_seconds=5,
        )
        budget = Budget(limit=10**30, gpu_hours=_ENOUGH if self.is_program else None)
        settings = StudyConfig(profile=profile, driver=Driver(job=False), budget=budget, policy=policy, stage=[])
        study = StudyContext(root=root, config=settings)
        with open_session(study, wait=60) as session:
            enter(session, RunRequest([self.config], [NAME], NAME, profile, self.resources))
        while True:
            with open_session(study, wait=60) as session:
                (row,) = session.make_pass()["runs"]
            if row["state"] in _OVER:
                found: Mapping[str, Any] = row
                return found
            begun = time.monotonic()
            while time.monotonic() - begun < _PASS_SECONDS:
                between()
                time.sleep(_POLL_SECONDS)


class Comparison:
    """The comparison with undisturbed runs: one, and a second one if the results differ, to see whether both do."""

    def __init__(self, rehearsal: Rehearsal, alone: RunLayout, profile: str) -> None:
        """Keep the undisturbed run; a second one needs the cluster only for several nodes."""
        self._rehearsal, self._alone = rehearsal, RunResult(alone)
        self._again: RunResult | None = None
        self._profile = profile if (rehearsal.resources.nodes or 1) > 1 else "local"

    def judge(self, disturbed: Disturbed) -> Judgement:
        """Return the verdict on a run that completed."""
        tolerance, is_program = self._rehearsal.tolerance, self._rehearsal.is_program
        found = judge(self._alone, disturbed, self._again, tolerance, is_program=is_program)
        if found.verdict == "bitwise" or self._again is not None:
            return found
        self._rehearsal.say("the results differ: it trains undisturbed again, to see whether two such runs are equal")
        self._again = RunResult(self._rehearsal.train_undisturbed(self._profile, "again").run)
        return judge(self._alone, disturbed, self._again, tolerance, is_program=is_program)


class ShapeCounter:
    """The counter of an undisturbed run's processes."""

    def __init__(self, run: RunLayout) -> None:
        self._run, self._processes = run, RunProcesses(run)
        self._counted = 0.0
        self.shape = Shape()

    def count(self) -> None:
        """Count, but not too often, and keep the most of each kind."""
        if time.monotonic() - self._counted < _SHAPE_SECONDS:
            return
        self._counted = time.monotonic()
        newest = max(generations(self._run), default=0)
        self.shape = Shape(
            max(self.shape.ranks, len(self._processes.ranks(newest))),
            max(self.shape.launchers, len(self._processes.launchers(newest))),
            max(self.shape.agents, len(self._processes.agents())),
        )


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the run with `steps` steps at most, and with checkpoints and validations spread over them.

    A program whose command has no {steps}, or no {checkpoint_every}, keeps its own number.
    """
    used = {"steps", "checkpoint_every"}
    if config.task == COMMAND_TASK:
        used &= read_params(CommandConfig, config.params).used
    fewer = min(steps, config.steps) if "steps" in used else config.steps
    every = max(1, fewer // CHECKPOINTS) if "checkpoint_every" in used else config.checkpoint_every
    return RunConfig.model_validate(
        {**config.model_dump(mode="json"), "steps": fewer, "checkpoint_every": every, "validate_every": every}
    )
