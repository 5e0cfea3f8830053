"""The tally of runs: what they add to a study's sums of work, hours, goodput and step times. Pure; `total` adds up.

The ledger keeps a tally of each closed run, and one of all closed runs together, so a pass reads none of their rows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from operator import add
from typing import Any

from lvjobs.control.budget.accounts import KINDS, Account, Priced
from lvjobs.control.budget.efficiency import Share, shares_of
from lvjobs.control.budget.intervals import Groups, Measured, measure
from lvjobs.control.budget.pace import Kind, Sample, samples_of
from lvjobs.ledger.reading import current_rates
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.study.run import canonical_json


@dataclass(frozen=True)
class StageWork:
    """The units of some runs by kind of charge. `estimated` units are part of the replayed ones.

    `first` is the ordinal of the first of these runs.
    """

    first: int
    useful: int
    replayed: int
    validation: int
    generation: int
    estimated: int

    def __add__(self, other: "StageWork") -> "StageWork":
        _, *sums = map(add, vars(self).values(), vars(other).values())
        return StageWork(min(self.first, other.first), *sums)


@dataclass(frozen=True)
class Tally:
    """Sums over runs: `work` by stage and rates (as JSON), and `shares` by stage.

    `groups` are as `measure` returns them, `samples` as `samples_of` does.
    """

    work: Mapping[tuple[str, str], StageWork] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def accounts(self) -> list[Account]:
        """Return the executed work, as one account for each stage and set of rates."""
        return [
            Account(
                Priced(stage, current_rates(json.loads(rates)), work.first),
                {kind: getattr(work, kind) for kind in KINDS},
                work.estimated,
            )
            for (stage, rates), work in self.work.items()
        ]

    @property
    def profiles(self) -> set[str]:
        """Return the profiles on which this work was executed."""
        return {profile for _, profile, _ in self.groups}

    def to_json(self) -> str:
        """Return the tally as one JSON object."""
        value = {
            "work": [[*key, *astuple(work)] for key, work in self.work.items()],
            "shares": [[stage, *astuple(share)] for stage, share in self.shares.items()],
            "groups": [[*key, *astuple(group)] for key, group in self.groups.items()],
            "samples": [[*astuple(sample)] for sample in self.samples.values()],
        }
        return json.dumps(value)


def parse_tally(text: str) -> Tally:
    """Parse a tally that `Tally.to_json` wrote."""
    value: dict[str, list[Any]] = json.loads(text)
    samples = [
        Sample(Kind(name, profile, settings, model, (step, window)), *rest)
        for (name, profile, settings, model, (step, window)), *rest in value["samples"]
    ]
    return Tally(
        {(stage, rates): StageWork(*rest) for stage, rates, *rest in value["work"]},
        {stage: Share(*rest) for stage, *rest in value["shares"]},
        {(stage, profile, every): Measured(*rest) for stage, profile, every, *rest in value["groups"]},
        {sample.kind.settings: sample for sample in samples},
    )


def tally_of(
    account: Account, run: RunRecord, attempts: Sequence[AttemptRecord], now: float, gpus: Mapping[str, int]
) -> Tally:
    """Return the tally of one run, up to `now` (seconds since the epoch).

    `gpus` are those that a job gets by default, by `RunRecord.submitted_by`.
    """
    units = {kind: account.units.get(kind, 0) for kind in KINDS}
    by_run = {run.id: attempts}
    return Tally(
        {(run.stage, canonical_json(run.rates)): StageWork(run.ordinal, **units, estimated=account.estimated)},
        shares_of([run], by_run, now, gpus),
        measure([run], by_run),
        samples_of([run], attempts),
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of the tallies."""
    found: dict[str, dict[Any, Any]] = {item.name: {} for item in fields(Tally)}
    for tally in tallies:
        for name, sums in found.items():
            for key, part in getattr(tally, name).items():
                sums[key] = sums[key] + part if key in sums else part
    return Tally(**found)
