"""The budget gate of a pass: no run starts unless spent + reserved + wanted <= limit. Pure.

This holds for FLOPs and, where they are limited too, for GPU-hours. The limits are shared, so the gate looks at all
runs at once, after each was decided about by itself. Runs that train continue. Runs that wait and no longer fit are
held, with a reason. Runs that were held only for the budget and fit now continue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lvjobs import remedies
from lvjobs.control.budget.accounts import Account, Amount, Books
from lvjobs.control.budget.cost import allowance, replay_of_an_interval, work_ahead
from lvjobs.control.budget.gpu_hours import GpuHours, hours
from lvjobs.control.reconcile.actions import Action, GiveBack, Reserve, Revoke, SetRun, Submit
from lvjobs.control.reconcile.attempts import give_up
from lvjobs.control.reconcile.views import RunView
from lvjobs.control.submission.send import shared_jobs
from lvjobs.ledger.records import RunRecord, WorkCounts
from lvjobs.study.digits import in_digits
from lvjobs.study.words import HeldFor, RunState

_MARGIN = 10
"""The share, 1 / 10, of the needed GPU-seconds that is reserved in addition when a reservation is renewed."""


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

    @property
    def training_at(self) -> int | None:
        """Return the last step of the job that trains the run now; None where none does."""
        last = self.view.attempts[-1] if self.view.attempts else None
        trains = self.state is RunState.RUNNING and last is not None and last.cause is None and last.has_started
        return last.step if trains and last is not None else None

    def ahead(self) -> WorkCounts:
        """Return the remaining work: from the last step if the run trains, else from its newest checkpoint."""
        step = self.training_at
        return work_ahead(self.run.config, self.checkpoint if step is None else step, self.run.stop_at)

    def gpu_seconds_ahead(self, hours: GpuHours) -> int:
        """Return the GPU-seconds that the rest of the run needs, counted from where `ahead` counts."""
        step = self.training_at
        return hours.ahead(self.run, self.checkpoint if step is None else step, is_training=step is not None)

    def allowance(self, account: Account, hours: GpuHours) -> WorkCounts:
        """Return all work, counted from step 0, that the run may execute if it is submitted now."""
        return allowance(self.run, account.executed, self.checkpoint, hours.ahead(self.run, self.checkpoint))


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
        self._free = books.room
        submitted = [case.run for case in cases if case.is_submitted]
        self._hours = books.gpu_hours.with_jobs(shared_jobs(submitted))
        self._alone = books.gpu_hours.with_jobs({case.run.id: 1 for case in cases})

    def actions(self) -> list[Action]:
        for case in self._cases:
            if case.has_job and case.run.rates:
                self._follow_replays(case)
        for case in self._cases:
            if case.has_job:
                self._follow_hours(case)
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

    def _extra(self, case: Case, wanted: WorkCounts) -> Amount:
        """Return what `wanted` (counted from step 0) needs beyond what is already spent and set aside."""
        account = self._account(case)
        return self._terms.amount(case.run, wanted.beyond(account.executed)) - account.amount_set_aside(self._terms)

    # -- runs that have a job ------------------------------------------------------------------------------------

    def _follow_replays(self, case: Case) -> None:
        """Renew the reservation, or hold the run, if replayed steps left too little for the remaining work."""
        account = self._account(case)
        if account.reserved is not None and not self._is_short(case):
            return
        wanted = account.executed + case.ahead() + replay_of_an_interval(case.run.config, case.checkpoint)
        reserved = account.reserved or WorkCounts()
        wanted = replace(wanted, gpu_seconds=reserved.gpu_seconds)  # `_follow_hours` looks after these
        extra = self._extra(case, wanted)
        if account.reserved is None:  # submitted by an old release, which made no reservations
            self._reserve(case, wanted, extra)
        elif self._renew and extra.flops <= self._free.flops:
            self._reserve(case, wanted, extra)
            note = f"{account.units['replayed']} steps were repeated: its reservation was renewed"
            standing = case.standing
            case.actions.append(SetRun(case.run.id, case.state, standing.reason, standing.cause, note=note))
        else:
            self._refuse_replays(case, extra)

    def _is_short(self, case: Case) -> bool:
        account = self._account(case)
        return account.reserved is not None and case.ahead().beyond(account.outstanding) != WorkCounts()

    def _follow_hours(self, case: Case) -> None:
        """Renew the reservation of GPU-hours if the run needs more, or hold a run that has too few to go on.

        A run that trains keeps its job if no more is free: its worker stops, at a checkpoint, when they are used up.
        """
        had = self._reserved(case) or WorkCounts()
        if self._terms.gpu_seconds is None:
            if had.gpu_seconds:  # the limit was removed
                self._reserve(case, replace(had, gpu_seconds=0), Amount())
            return
        account, need = self._account(case), case.gpu_seconds_ahead(self._hours)
        have = had.gpu_seconds - account.gpu_seconds
        if need <= have:
            return
        need += need // _MARGIN  # so that a pace that varies a little is not followed in every pass
        wanted = replace(had, gpu_seconds=account.gpu_seconds + need)
        extra = Amount(0, need - max(0, have))
        if extra.gpu_seconds <= self._free.gpu_seconds and (self._renew or not had.gpu_seconds):
            self._reserve(case, wanted, extra)
            if had.gpu_seconds:
                note = f"it needs about {hours(extra.gpu_seconds):.3g} GPU-hours more: its reservation was renewed"
                standing = case.standing
                case.actions.append(SetRun(case.run.id, case.state, standing.reason, standing.cause, note=note))
        elif not had.gpu_seconds or have < self._least(case):
            self._refuse_hours(case, extra)

    def _reserved(self, case: Case) -> WorkCounts | None:
        """Return the run's reservation, with what this pass has changed of it."""
        renewed = [action.work for action in case.actions if isinstance(action, Reserve)]
        return renewed[-1] if renewed else self._account(case).reserved

    def _refuse_hours(self, case: Case, extra: Amount) -> None:
        used_up = f"the {hours(self._account(case).gpu_seconds):.3g} GPU-hours used up its reservation"
        if self._renew or not (self._reserved(case) or WorkCounts()).gpu_seconds:
            self._hold(case, self._too_much(extra))
        else:
            self._hold_for_replays(case, used_up)

    def _refuse_replays(self, case: Case, extra: Amount) -> None:
        used_up = f"{self._account(case).units['replayed']} repeated steps used up its reservation"
        if self._renew:
            self._hold(case, f"{used_up}, and {self._too_much(extra)}")
        else:
            self._hold_for_replays(case, used_up)

    def _hold_for_replays(self, case: Case, used_up: str) -> None:
        command = remedies.RESUME_RUN(run=case.run.name)
        reason = f"{used_up}, and study.toml's [budget] has renew = false; to continue it: {command}"
        self._hold(case, reason, held_for=HeldFor.REPLAYS)

    def _reserve(self, case: Case, wanted: WorkCounts, extra: Amount) -> None:
        self._free -= extra
        case.actions.append(Reserve(case.run.id, wanted))

    # -- a limit that was lowered --------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Free FLOPs or GPU-hours while more is reserved than allowed: of runs without a job, then of queued jobs."""
        if self._free.flops >= 0 and self._free.gpu_seconds >= 0:
            return
        for case in reversed(self._in_order()):
            rests = case.state in (RunState.HELD, RunState.PAUSED, RunState.PLANNED) and not case.is_submitted
            if self._lacks_for(case) and rests and case.is_idle and self._account(case).reserved is not None:
                self._give_back(case)
        for case in reversed(self._in_order()):
            if self._lacks_for(case) and case.has_job and case.state in (RunState.QUEUED, RunState.INTERRUPTED):
                self._hold(case, self._too_much(Amount()))

    def _lacks_for(self, case: Case) -> bool:
        """Return whether more is reserved than allowed of FLOPs or GPU-hours, and the run has some of them."""
        mine = self._account(case).amount_set_aside(self._terms)
        lacks_flops = self._free.flops < 0 and (mine.flops > 0 or self._terms.gpu_seconds is None)
        return lacks_flops or (self._free.gpu_seconds < 0 and mine.gpu_seconds > 0)

    # -- runs that would start -----------------------------------------------------------------------------------

    def _admit(self, case: Case) -> None:
        account, wanted = self._account(case), self._wanted(case, self._hours)
        extra = self._extra(case, wanted)
        had = (account.reserved or WorkCounts()).gpu_seconds
        if not self._renew and case.run.rates and self._is_short(case):
            self._refuse_replays(case, extra)
        elif not self._renew and had and account.outstanding.gpu_seconds < self._least(case):
            self._refuse_hours(case, extra)
        elif extra.fits(self._free):
            self._free -= extra
        else:
            self._hold(case, self._too_much(extra))

    def _wanted(self, case: Case, gpu_hours: GpuHours) -> WorkCounts:
        """Return all that the run may execute if it is submitted now; without renewal no more GPU-hours than it has."""
        account = self._account(case)
        wanted, had = case.allowance(account, gpu_hours), (account.reserved or WorkCounts()).gpu_seconds
        return wanted if self._renew or not had else replace(wanted, gpu_seconds=had)

    def _least(self, case: Case) -> int:
        """Return the GPU-seconds that the run's next job, or its live one, needs at least."""
        is_training = case.training_at is not None
        if not is_training and self._hours.of(case.run).live > 0:  # its job has begun, and its worker not yet
            return 0
        return self._hours.least(case.run, case.checkpoint, is_training=is_training)

    def _release(self, case: Case) -> None:
        extra = self._extra(case, self._wanted(case, self._alone))
        if extra.fits(self._free):
            self._free -= extra
            state = RunState.INTERRUPTED if case.view.attempts else RunState.PLANNED
            note = "the budget allows it now: it continues"
            case.actions += [SetRun(case.run.id, state, cause=case.standing.cause, note=note), Submit(case.run.id)]

    # -- runs that must wait -------------------------------------------------------------------------------------

    def _hold(self, case: Case, reason: str, held_for: HeldFor = HeldFor.BUDGET) -> None:
        """Hold the run, and end its reservation unless it trains: then its job writes a checkpoint first, and exits."""
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
        self._free += self._account(case).amount_set_aside(self._terms)
        case.actions.append(GiveBack(case.run.id))

    def _too_much(self, extra: Amount) -> str:
        over, limit, more = extra - self._free, f"{self._terms.limit:.4g}", remedies.BUDGET_SET
        lacking = f"{in_digits(over.flops, 4)} FLOPs"
        if over.flops <= 0 and self._terms.gpu_seconds is not None:
            limit, more = f"{hours(self._terms.gpu_seconds):.4g}", remedies.BUDGET_SET_HOURS
            lacking = f"{hours(over.gpu_seconds):.3g} GPU-hours"
        return (
            f"needs {lacking} more than is available (limit {limit}); it resumes automatically once they are free; "
            f"to raise the limit: {more}"
        )
