"""The time limits of runs to submit, from the times that the ledger has of similar runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lvjobs.cluster.backends import backend_of, defaults_of
from lvjobs.cluster.protocol import Limits
from lvjobs.control.backends import profile_of
from lvjobs.control.budget.pace import Stopwatch, samples_of
from lvjobs.control.submission.slots import pack_size
from lvjobs.control.submission.time_limits import Bounds, TimeLimit, is_automatic, shared, time_limit
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import RunRecord
from lvjobs.study.layout import StudyLayout


@dataclass(frozen=True)
class Timing:
    """The computed time limits, by run id; empty if the limit of `runs` is not computed."""

    bounds: Bounds = field(default_factory=Bounds)
    limits: Mapping[str, TimeLimit] = field(default_factory=dict)
    runs: Sequence[RunRecord] = ()

    def applied(self, runs: Sequence[RunRecord]) -> Sequence[RunRecord]:
        """Return the runs of one array or job with the time limit that they share, if one is computed."""
        if not self.limits:
            return runs
        chosen = shared(runs, self.limits, self.bounds)
        computed = {"time_limit_minutes": chosen.minutes, "time_limit_most": self.bounds.most}
        return [replace(run, resources={**run.resources, **computed}) for run in runs]

    @property
    def words(self) -> str:
        """Return the time limit of the array or of the first shared job, and why; empty if none is computed."""
        if not self.limits:
            return ""
        pack = pack_size(self.runs[0])
        chosen = shared(self.runs[:pack] if pack > 1 else self.runs, self.limits, self.bounds)
        asked = "the profile's" if chosen.minutes is None else f"{chosen.minutes} min"
        return f"time limit: {asked} ({chosen.words})"


def timing_of(layout: StudyLayout, ledger: Ledger, runs: Sequence[RunRecord], limits: Limits) -> Timing:
    """Return the time limits of runs that can share an array; none if their limit is given or they run locally.

    `limits` are the site's limits on such jobs.
    """
    first = runs[0]
    if not is_automatic(first.resources) or not backend_of(first.profile).is_site:
        return Timing()
    bounds = _bounds(layout, first, limits)
    paces, newest = _paces(ledger)
    return Timing(bounds, {run.id: time_limit(run, newest[run.id], paces.pace(run), bounds) for run in runs}, runs)


def measured_limit(layout: StudyLayout, ledger: Ledger, run: RunRecord) -> int | None:
    """Return the minutes that a job of this run needs; None if no similar run was measured."""
    paces, newest = _paces(ledger)
    pace = paces.pace(run)
    return None if pace is None else time_limit(run, newest[run.id], pace, _bounds(layout, run, Limits())).minutes


def _bounds(layout: StudyLayout, run: RunRecord, limits: Limits) -> Bounds:
    defaults = defaults_of(profile_of(layout, run))
    known = [int(most) for most in (defaults.get("time_limit_minutes"), limits.minutes) if most]
    lead = run.resources.get("signal_lead_seconds") or defaults.get("signal_lead_seconds") or 0
    return Bounds(min(known, default=None), float(lead))


def _paces(ledger: Ledger) -> tuple[Stopwatch, Mapping[str, int]]:
    """Return the measured paces, and the step of each run's newest checkpoint."""
    with ledger.transaction() as transaction:
        runs, attempts = transaction.runs(), transaction.attempts()
    newest: dict[str, int] = defaultdict(int)
    for attempt in attempts:
        newest[attempt.run_id] = max(newest[attempt.run_id], attempt.checkpoint_step)
    return Stopwatch(samples_of(runs, attempts)), newest
