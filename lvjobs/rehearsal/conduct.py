"""An undisturbed run, and the same run with faults that are drawn from a seed and injected into its job."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvjobs.errors import LvjobsError
from lvjobs.rehearsal.attempts import checkpoints_of, entries_of, generations_of, problem_of
from lvjobs.rehearsal.differences import RunResult
from lvjobs.rehearsal.escapes import EscapeWatch
from lvjobs.rehearsal.faults import Fault, FaultInjector, Shape, process_faults, program_faults
from lvjobs.rehearsal.runs import LONGEST_SECONDS, NAME, ShapeCounter, Undisturbed, train_to_its_end, where
from lvjobs.rehearsal.saves import SavePlace
from lvjobs.rehearsal.verdict import Disturbed, Judgement, failure_of, judge, why_not, worst
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources


@dataclass(frozen=True)
class RehearsalReport:
    """The result: the verdict, the round that gave it and that round's row (docs/json.md), and sums over all rounds.

    Attributes:
        judgement: The verdict.
        run: The row of the disturbed run that it is on.
        round: The number of that run; 0 if there was none.
        attempts: Attempts of all rounds.
        repeated: Repeated steps of all rounds.
        met: The number of faults that met a run, by kind.
        untested: The kinds for which no time was left.
        dropped: The kinds that found nothing to act on, twice.
        breaches: See `EscapeWatch`.
        outside: See `EscapeWatch`.
    """

    judgement: Judgement
    run: Mapping[str, Any]
    round: int = 0
    attempts: int = 0
    repeated: int = 0
    met: Mapping[str, int] = field(default_factory=dict)
    untested: Sequence[str] = ()
    dropped: Sequence[str] = ()
    breaches: Sequence[str] = ()
    outside: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """Return whether the run resumes with the same result, or a near one where that was allowed."""
        return self.judgement.verdict in ("bitwise", "within_tolerance") and not self.breaches


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

    def train_undisturbed(self, profile: str, name: str = "alone") -> Undisturbed:
        """Train the run without faults, and return its files, its processes and its row.

        Raises:
            LvjobsError: it was not completed; the text gives its state.
        """
        root = self.place / name
        run = StudyLayout(root).run(NAME)
        counter = ShapeCounter(run)
        row = self._train(root, profile, counter.count)
        if row["state"] != "completed":
            why = why_not(row, [entries_of(run, number) for number in generations_of(run)])
            raise LvjobsError(
                f"without faults, the run is {row['state']} at step {row['step']}: {why}. Fix that first; its log is "
                f"in "
                f"{StudyLayout(root).log_directory(NAME)}"
            )
        ranks = counter.shape.ranks + (0 if self.is_program else 1)
        together = f", {ranks} processes together" if ranks > 1 else ""
        steps = f"{row['step']} {'step' if row['step'] == 1 else 'steps'}"
        self.say(f"undisturbed, {where(profile, self.resources)}: {steps}{together}")
        return Undisturbed(run, counter.shape, row)

    def disturb(
        self,
        alone: Undisturbed,
        profile: str,
        faults: Callable[[StudyLayout], Mapping[str, Fault]],
        *,
        chance: random.Random,
        until: float,
    ) -> RehearsalReport:
        """Train the run with faults, in rounds until each kind met it, and compare it with the undisturbed run.

        Args:
            alone: The undisturbed run.
            profile: The cluster to train on.
            faults: Returns the faults of that cluster for a study, beside those of the run's own processes.
            chance: The source of choices, and of the times between them.
            until: No fault is injected, and no round begins, later (monotonic seconds).
        """
        steps = checkpoints_of(alone.run)
        if self.is_program and not steps:
            reason = f"undisturbed, it published no checkpoint{problem_of(alone.run)}"
            return RehearsalReport(Judgement("does_not_resume", reason), alone.row, attempts=1)
        interval = max(1, self.config.steps // max(1, len(steps)))
        injector, compare = None, Comparison(self, alone.run, profile)
        rounds: list[tuple[int, Mapping[str, Any], Judgement]] = []
        breaches: dict[str, None] = {}
        outside: dict[str, None] = {}
        while True:
            number = len(rounds) + 1
            study = StudyLayout(self.place / f"disturbed-{number}")
            every = self._faults(study, alone.shape, faults, chance)
            if injector is None:
                injector = FaultInjector(study.run(NAME), interval, every, chance, until, self.say)
            else:
                self.say(f"round {number}, for: {', '.join(injector.untested)}")
                injector.begin_again(study.run(NAME), every)
            watch = EscapeWatch(study.run(NAME))
            row, judgement = self._disturb_once(study, profile, alone.hung_seconds, injector, watch, compare)
            rounds.append((number, row, judgement))
            breaches |= dict.fromkeys(watch.breaches)
            outside |= dict.fromkeys(watch.outside)
            if judgement.verdict == "does_not_resume" or not injector.untested or time.monotonic() > until:
                break
        found = worst(judgement for *_, judgement in rounds)
        number, row, _ = next(each for each in rounds if each[2] is found)
        attempts, repeated = (sum(each[key] for _, each, _ in rounds) for key in ("attempts", "replayed_steps"))
        return RehearsalReport(
            found,
            row,
            round=number,
            attempts=attempts,
            repeated=repeated,
            met=injector.met,
            untested=injector.untested,
            dropped=injector.dropped,
            breaches=list(breaches),
            outside=list(outside),
        )

    def _train(
        self, root: Path, profile: str, between: Callable[[], None], patience: float = LONGEST_SECONDS
    ) -> Mapping[str, Any]:
        return train_to_its_end(root, self.config, self.resources, profile, between, patience)

    def _faults(
        self,
        study: StudyLayout,
        shape: Shape,
        faults: Callable[[StudyLayout], Mapping[str, Fault]],
        chance: random.Random,
    ) -> dict[str, Fault]:
        """Return the faults of the cluster, of the run's processes, and of its program."""
        run = study.run(NAME)
        every = {**faults(study), **process_faults(run, shape, chance, is_program=self.is_program)}
        if self.is_program:
            every |= program_faults(run, SavePlace.of(run, self.config))
        return every

    def _disturb_once(
        self,
        study: StudyLayout,
        profile: str,
        patience: float,
        injector: FaultInjector,
        watch: EscapeWatch,
        compare: "Comparison",
    ) -> tuple[Mapping[str, Any], Judgement]:
        """Train the run with faults once; return its row, and the verdict."""
        run = study.run(NAME)

        def between() -> None:
            injector.inject()
            if self.is_program:
                watch.look()

        before = Counter(injector.met)
        row = self._train(study.root, profile, between, patience)
        watch.close()
        attempts = [entries_of(run, number) for number in generations_of(run)]
        met = injector.met - before
        disturbed = Disturbed(RunResult(run), row, attempts, met, self.config.checkpoint_every)
        return row, failure_of(disturbed) or compare.judge(disturbed)


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
