"""An undisturbed run, and the same run with faults that are drawn from a seed."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.control.loop import open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.lab import LabError
from lvjobs.records.claim import Claim
from lvjobs.records.journal import parse_entries
from lvjobs.rehearsal.injected_faults import Fault
from lvjobs.rehearsal.verdict import Difference, differences
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Budget, Driver, Policy, Resources

NAME = "rehearsal"
CHECKPOINTS = 6
"""The number of checkpoints in a rehearsed run."""

_PASS_SECONDS = 1.0
_POLL_SECONDS = 0.02
_ENOUGH = 10**6
_OVER = ("completed", "held", "cancelled", "paused")


@dataclass(frozen=True)
class RehearsalReport:
    """The result: the number of faults by kind, the disturbed run's row (docs/json.md), and the differences."""

    met: Mapping[str, int]
    run: Mapping[str, Any]
    differences: Sequence[Difference]
    alone: RunLayout
    disturbed: RunLayout

    @property
    def holds(self) -> bool:
        """Return whether the disturbed run was completed and equals the undisturbed one."""
        return self.run["state"] == "completed" and not self.differences


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the run with `steps` steps, and with checkpoints and validations spread over them."""
    every = max(1, steps // CHECKPOINTS)
    changes = {"steps": steps, "checkpoint_every": every, "validate_every": every}
    return RunConfig.model_validate({**config.model_dump(mode="json"), **changes})


def train_undisturbed(root: Path, config: RunConfig, resources: Resources, say: Callable[[str], None]) -> RunLayout:
    """Train the run on this machine without faults, and return its files.

    Raises:
        LvjobsError: it was not completed; the text gives its state.
    """
    study = _study(root, "local")
    _enter(study, config, resources)
    row = _follow(study, lambda: None)
    if row["state"] != "completed":
        raise LvjobsError(
            f"left alone, the run is {row['state']} at step {row['step']}: {row['reason']}; there is nothing to "
            f"rehearse before that is mended: see {study.root}"
        )
    say(f"left alone: {row['steps']} steps")
    return study.layout.run(NAME)


def disturb(
    root: Path,
    profile: str,
    config: RunConfig,
    resources: Resources,
    faults: Mapping[str, Fault],
    *,
    seed: int,
    until: float,
    say: Callable[[str], None],
) -> tuple[RunLayout, Mapping[str, Any], Mapping[str, int]]:
    """Train the run with faults, until its end; none is injected after `until` (monotonic seconds).

    Returns:
        Its files, its row, and the number of faults by kind.
    """
    study = _study(root, profile)
    injector = FaultInjector(study.layout.run(NAME), config.checkpoint_every, faults, random.Random(seed), until, say)
    _enter(study, config, resources)
    row = _follow(study, injector.inject)
    return study.layout.run(NAME), row, injector.met


def report(alone: RunLayout, disturbed: RunLayout, row: Mapping[str, Any], met: Mapping[str, int]) -> RehearsalReport:
    """Compare the two runs."""
    return RehearsalReport(met, row, differences(alone, disturbed), alone, disturbed)


class FaultInjector:
    """The injector of faults: each comes after some steps of an execution, so that every execution trains."""

    def __init__(
        self,
        files: RunLayout,
        interval: int,
        faults: Mapping[str, Fault],
        chance: random.Random,
        until: float,
        say: Callable[[str], None],
    ) -> None:
        self.met: Counter[str] = Counter()
        self._files, self._interval, self._faults = files, interval, faults
        self._chance, self._until, self._say = chance, until, say
        self._bag: list[str] = []
        self._disturbed = 0
        self._after = 0
        self._draw()

    def _draw(self) -> None:
        """Draw the next fault, and after how many steps it comes: each kind once before any is repeated."""
        if not self._bag:
            self._bag = self._chance.sample(sorted(self._faults), len(self._faults))
        self._after = self._chance.randint(1, self._interval + self._interval // 2)

    def inject(self) -> None:
        """Inject the next fault if it is due."""
        claim = self._newest()
        if claim is None or claim.generation <= self._disturbed or time.monotonic() > self._until:
            return
        journal = self._files.journal(claim.generation)
        entries = parse_entries(journal.read_bytes())[0] if journal.exists() else []
        taken = sum(entry.kind == "step" for entry in entries)
        if taken < self._after or any(entry.kind in ("leave", "done", "error") for entry in entries):
            return
        what = self._bag.pop()
        with suppress(LabError, UsageError):  # the job ended in the meantime
            self._faults[what](claim)
            self.met[what] += 1
            self._say(f"{what}, {taken} steps after it began for the {claim.generation}. time")
        self._disturbed = claim.generation
        self._draw()

    def _newest(self) -> Claim | None:
        paths = sorted(path for path in self._files.generations.glob("*") if path.name.isdecimal())
        return Claim.from_json(paths[-1].read_text(encoding="utf-8")) if paths else None


def _study(root: Path, profile: str) -> StudyContext:
    """Return a study of its own: without a driver, with an unlimited budget, short waits and unlimited retries."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, mode=0o700)
    limits = [key for key in Policy.model_fields if key.endswith("_retries") and key != "out_of_memory_retries"]
    retries = dict.fromkeys(limits, _ENOUGH)
    policy = Policy(
        **retries,
        no_progress_deaths=_ENOUGH,
        no_progress_preemptions=_ENOUGH,
        backoff_seconds=1,
        unclear_seconds=3,
        lost_seconds=5,
    )
    config = StudyConfig(
        profile=profile, driver=Driver(job=False), budget=Budget(limit=10**30), policy=policy, stage=[]
    )
    return StudyContext(root=root, config=config)


def _enter(study: StudyContext, config: RunConfig, resources: Resources) -> None:
    with open_session(study, wait=60) as session:
        enter(session, RunRequest([config], [NAME], NAME, study.config.profile, resources))


def _follow(study: StudyContext, between: Callable[[], None]) -> Mapping[str, Any]:
    """Make passes until the run is over, and return its row."""
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
