"""The standing of a stage's runs, and their values by its rule."""

from collections.abc import Mapping
from dataclasses import replace

from lvjobs.control.budget.accounts import Terms
from lvjobs.control.budget.cost import work_ahead
from lvjobs.ledger.records import RunRecord
from lvjobs.records.curves import curves, value_at
from lvjobs.study.layout import StudyLayout
from lvjobs.study.run import candidate_of
from lvjobs.study.stages import Select
from lvjobs.study.words import HeldFor, RunState
from lvjobs.sweep.selection import Outcome, Standing

_STANDINGS: Mapping[RunState, Standing] = {
    RunState.COMPLETED: "done",
    RunState.CANCELLED: "cancelled",
    RunState.HELD: "held",
    RunState.PAUSED: "held",
}


def standing_of(run: RunRecord) -> Standing:
    """Return a run's standing in its stage."""
    if run.state is RunState.PAUSED and run.held_for is HeldFor.PRUNED:
        return "pruned"
    if run.held_for in (HeldFor.BUDGET, HeldFor.RUNG):  # it continues by itself, or its stage decides
        return "open"
    return _STANDINGS.get(run.state, "open")


def outcome_of(run: RunRecord, terms: Terms) -> Outcome:
    """Return a run's standing in its stage, with the FLOPs of its whole work, but without its value."""
    candidate = candidate_of(run.config)
    return Outcome(run.id, run.name, candidate, standing_of(run), flops=terms.price(run, work_ahead(run.config, 0)))


def measured(run: RunRecord, terms: Terms, rule: Select, layout: StudyLayout) -> Outcome:
    """Return a run's standing, with the value that the rule selects from its journals."""
    return replace(outcome_of(run, terms), value=value_at(curve_of(run, rule, layout), rule.at, rule.mode))


def curve_of(run: RunRecord, rule: Select, layout: StudyLayout) -> Mapping[int, float]:
    """Return the values of the rule's metric in the run's journals, by step."""
    journals = sorted(layout.run(run.name).journals.glob("*.jsonl"))
    return curves(path.read_bytes() for path in journals).of(rule.metric)
