"""The budget gate of a pass: no run starts unless spent + reserved + wanted <= limit, in FLOPs. Pure.

The limit is shared, so the gate looks at all runs at once, after each was decided about by itself. Runs that train
continue. Runs that wait and no longer fit are held, with a reason. Runs that were held only for the budget and fit now
continue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lvjobs import remedies
from lvjobs.control.budget.accounts import Account, Books
from lvjobs.control.budget.cost import allowance, replay_of_an_interval, work_ahead
from lvjobs.control.reconcile.actions import Action, GiveBack, Reserve, Revoke, SetRun, Submit
from lvjobs.control.reconcile.attempts import give_up
from lvjobs.control.reconcile.views import RunView
from lvjobs.ledger.records import RunRecord, WorkCounts
from lvjobs.study.words import HeldFor, RunState


@dataclass
class Case:
    """One run in this pass: its view, and the actions so far."""

    view: RunView
    actions: list[Action]

    @property
    def run(self) -> RunRecord:
        """Return the run, as the ledger has it."""
        return self.view.run

    @property
    def standing(self) -> SetRun:
        """Return the last change of the run's state, or how the ledger has it: why it waits, and its last cause."""
        changes = [action for action in self.actions if isinstance(action, SetRun)]
        return changes[-1] if changes else SetRun(self.run.id, self.run.state, self.run.reason, self.run.cause)

    @property
    def state(self) -> RunState:
        """Return the run's state once the actions are carried out."""
        return self.standing.state

    @property
    def checkpoint(self) -> int:
        """Return the step from which the run's next attempt would begin; 0 without a checkpoint."""
        return max((attempt.checkpoint_step for attempt in self.view.attempts), default=0)

    @property
    def is_submitted(self) -> bool:
        """Return whether this pass submits the run."""
        return any(isinstance(action, Submit) for action in self.actions)

    @property
    def is_idle(self) -> bool:
        """Return whether the run has no job, neither a live one nor a revoked one that may still exist."""
        return self.view.live is None and not self.view.others

    @property
    def has_job(self) -> bool:
        """Return whether the run has a live submission that it keeps."""
        given_up = any(isinstance(action, Revoke) for action in self.actions)
        return self.view.live is not None and not given_up and not self.state.is_final

    def ahead(self) -> WorkCounts:
        """Return the remaining work: from the last step if the run trains, else from its newest checkpoint."""
        last = self.view.attempts[-1] if self.view.attempts else None
        if self.state is RunState.RUNNING and last is not None and last.cause is None and last.has_started:
            return work_ahead(self.run.config, last.step)
        return work_ahead(self.run.config, self.checkpoint)

    def allowance(self, account: Account) -> WorkCounts:
        """Return all work, counted from step 0, that the run may execute if it is submitted now."""
        return allowance(self.run, account.executed, self.checkpoint)


def gate(cases: Sequence[Case], books: Books, *, renew: bool) -> list[Action]:
    """Return the actions of all cases, after the budget has changed them.

    Args:
        cases: All runs of the pass.
        books: The accounts, with what the journals show now.
        renew: If replayed steps used up a run's reservation, reserve another checkpoint interval while one is free.
            Otherwise the run is held.
    """
    return _Gate(cases, books, renew=renew).actions()


class _Gate:
    def __init__(self, cases: Sequence[Case], books: Books, *, renew: bool) -> None:
        self._cases = cases
        self._books = books
        self._terms = books.terms
        self._renew = renew
        self._free = books.free

    def actions(self) -> list[Action]:
        for case in self._cases:
            if case.has_job and case.run.rates:
                self._follow_replays(case)
        self._make_room()
        for case in self._in_order():
            if case.is_submitted:
                self._admit(case)
            elif case.run.held_for is HeldFor.BUDGET and case.is_idle and case.state is RunState.HELD:
                self._release(case)
        return [action for case in self._cases for action in case.actions]

    def _account(self, case: Case) -> Account:
        return self._books.accounts[case.run.id]

    def _in_order(self) -> list[Case]:
        """Return the cases in order of priority: runs with a checkpoint first, then those declared first."""
        return sorted(self._cases, key=lambda case: (case.checkpoint == 0, case.run.ordinal))

    def _extra(self, case: Case, wanted: WorkCounts) -> int:
        """Return the FLOPs that `wanted` (counted from step 0) needs beyond those already spent and set aside."""
        account = self._account(case)
        return self._terms.price(case.run, wanted.beyond(account.executed)) - account.set_aside(self._terms)

    # -- runs that have a job ------------------------------------------------------------------------------------

    def _follow_replays(self, case: Case) -> None:
        """Renew the reservation, or hold the run, if replayed steps left too little for the remaining work."""
        account = self._account(case)
        if account.reserved is not None and not self._is_short(case):
            return
        wanted = account.executed + case.ahead() + replay_of_an_interval(case.run.config, case.checkpoint)
        extra = self._extra(case, wanted)
        if account.reserved is None:  # submitted by an old release, which made no reservations
            self._reserve(case, wanted, extra)
        elif self._renew and extra <= self._free:
            self._reserve(case, wanted, extra)
            note = f"{account.units['replayed']} steps were replayed: its reservation was renewed"
            standing = case.standing
            case.actions.append(SetRun(case.run.id, case.state, standing.reason, standing.cause, note=note))
        else:
            self._refuse_replays(case, extra)

    def _is_short(self, case: Case) -> bool:
        account = self._account(case)
        return account.reserved is not None and case.ahead().beyond(account.outstanding) != WorkCounts()

    def _refuse_replays(self, case: Case, extra: int) -> None:
        used_up = f"{self._account(case).units['replayed']} replayed steps used up what was reserved for it"
        if self._renew:
            self._hold(case, f"{used_up}, and {self._too_much(extra)}")
        else:
            command = remedies.RESUME_RUN(run=case.run.name)
            reason = f"{used_up}, and study.toml's [budget] has renew = false; to go on: {command}"
            self._hold(case, reason, held_for=HeldFor.REPLAYS)

    def _reserve(self, case: Case, wanted: WorkCounts, extra: int) -> None:
        self._free -= extra
        case.actions.append(Reserve(case.run.id, wanted))

    # -- a limit that was lowered --------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Free FLOPs while more is reserved than the limit allows: first of runs without a job, then of queued jobs."""
        if self._free >= 0:
            return
        for case in reversed(self._in_order()):
            rests = case.state in (RunState.HELD, RunState.PAUSED, RunState.PLANNED) and not case.is_submitted
            if self._free < 0 and rests and case.is_idle and self._account(case).reserved is not None:
                self._give_back(case)
        for case in reversed(self._in_order()):
            if self._free < 0 and case.has_job and case.state in (RunState.QUEUED, RunState.INTERRUPTED):
                self._hold(case, self._too_much(0))

    # -- runs that would start -----------------------------------------------------------------------------------

    def _admit(self, case: Case) -> None:
        extra = self._extra(case, case.allowance(self._account(case)))
        if not self._renew and case.run.rates and self._is_short(case):
            self._refuse_replays(case, extra)
        elif extra <= self._free:
            self._free -= extra
        else:
            self._hold(case, self._too_much(extra))

    def _release(self, case: Case) -> None:
        extra = self._extra(case, case.allowance(self._account(case)))
        if extra <= self._free:
            self._free -= extra
            state = RunState.INTERRUPTED if case.view.attempts else RunState.PLANNED
            note = "the budget allows it now: it goes on"
            case.actions += [SetRun(case.run.id, state, cause=case.standing.cause, note=note), Submit(case.run.id)]

    # -- runs that must wait -------------------------------------------------------------------------------------

    def _hold(self, case: Case, reason: str, held_for: HeldFor = HeldFor.BUDGET) -> None:
        """Hold the run, and end its reservation unless it trains: then its job writes a checkpoint first, and exits."""
        if held_for is HeldFor.BUDGET:
            reason += f"; it goes on by itself once they are free, or the limit is raised: {remedies.BUDGET_SET}"
        is_training = case.state is RunState.RUNNING
        case.actions[:] = [action for action in case.actions if not isinstance(action, Submit)]
        if case.has_job and case.view.live is not None:
            case.actions += give_up(case.view.live, case.run.id)
        note = f"held: {reason}"
        case.actions.append(
            SetRun(case.run.id, RunState.HELD, reason, case.standing.cause, note=note, held_for=held_for)
        )
        if not is_training:  # a job that trains may spend until it is gone: `act` ends the reservation then
            self._give_back(case)

    def _give_back(self, case: Case) -> None:
        self._free += self._account(case).set_aside(self._terms)
        case.actions.append(GiveBack(case.run.id))

    def _too_much(self, extra: int) -> str:
        limit = self._terms.limit
        return f"{extra - self._free:.4g} FLOPs more are needed than the limit of {limit:.4g} leaves free"
