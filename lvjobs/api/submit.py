"""The submission of runs: prepared from settings, then previewed or sent; with proposals if the budget refuses."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lvjobs import remedies
from lvjobs.api.results import Preview, Status, Submission
from lvjobs.api.settings import Overrides, check_task, own_settings, pinned, settle
from lvjobs.api.updates import READ_WAIT_SECONDS, open_session, updating
from lvjobs.control.planning.fit import Proposal
from lvjobs.control.planning.foresee import foresee, what_fits, what_helps
from lvjobs.control.planning.ledger_view import read
from lvjobs.control.stages.submit_runs import Entered, OverBudget, enter, script
from lvjobs.control.submission.declare import RunRequest, default_name
from lvjobs.control.submission.slots import is_packed
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.run import RunConfig
from lvjobs.study.settings import OwnSettings
from lvjobs.study.tables import Resources
from lvjobs.study.words import SubmitOutcome
from lvjobs.tasks.registry import check_needs

EvaluationFor = Callable[[str, RunConfig], tuple[RunConfig, str]]
"""A function from a run's name and configuration to its evaluation's configuration and name."""

Agree = Callable[[Proposal], bool]
"""A function that gets the proposal that fits when the budget refuses, and returns whether to submit it."""


@dataclass(frozen=True)
class PreparedRuns:
    """Runs that are ready to be submitted.

    `name_of` names a run whose configuration was changed to fit the budget. `evaluation_for` makes a run's evaluation.
    `given` are the caller's overrides, which an existing run ignores, and so are refused for it. `notes` are lines for
    the caller on what was prepared.
    """

    study: StudyContext
    wanted: RunRequest
    name_of: Callable[[RunConfig], str]
    evaluation_for: EvaluationFor | None = None
    given: Overrides = field(default_factory=Overrides)
    notes: Sequence[str] = ()

    def submit(self, agree: Agree | None = None) -> Submission:
        """Submit the runs, and reconcile.

        Args:
            agree: If the budget refuses for FLOPs, called with the proposal that fits; None to raise the refusal.

        Raises:
            OverBudget: The budget refuses, and `agree` is None.
            UsageError: Nothing fits, `agree` returned False, or the runs can never work. Nothing was submitted.
        """
        wanted = self._with_evaluations(self.wanted)
        self._check_models(wanted)
        proposal = None
        try:
            entered, status = self._enter(wanted)
        except OverBudget as error:
            if agree is None or not error.shortfall.is_of_flops:
                raise OverBudget(error.shortfall, self.study.where) from None
            # The lease is free while the user decides. Other processes may use the budget meanwhile.
            proposal, fitting = self._what_fits(wanted, error)
            if not agree(proposal):
                more = remedies.BUDGET_SET(*self.study.where)
                raise UsageError(
                    f"nothing was submitted; submit fewer runs or steps, or raise the limit: {more}"
                ) from None
            entered, status = self._enter(self._with_evaluations(fitting))
        return _submission(entered, status, proposal)

    def preview(self, *, fit: bool = False) -> Preview:
        """Return the exact batch script and its cost, and with `fit` a proposal that fits; submit nothing.

        Raises:
            UsageError: No job could load a model.
        """
        wanted = self._with_evaluations(self.wanted)
        self._check_models(wanted)
        with open_session(self.study) as session:
            text, computed = script(session, wanted)
            with session.ledger.transaction() as transaction:
                seen = read(transaction)
            found = what_fits(session, wanted, self.name_of) if fit else None
            study = session.study
        configs = [*wanted.configs, *(config for config, _ in wanted.evaluations)]
        foreseen = foresee(study, {wanted.stage: configs}, seen, wanted.resources, wanted.profile, evaluated=False)
        proposal = found[0] if found and found[0].is_change else None
        return Preview(text, computed, foreseen, proposal)

    def _with_evaluations(self, wanted: RunRequest) -> RunRequest:
        if self.evaluation_for is None:
            return wanted
        named = zip(wanted.names, wanted.configs, strict=True)
        return replace(wanted, evaluations=[self.evaluation_for(name, config) for name, config in named])

    def _check_models(self, wanted: RunRequest) -> None:
        """Refuse models that no job could load, before anything is written. Existing runs are not checked.

        Raises:
            UsageError: see `lvjobs.tasks.registry.check_needs`.
        """
        named = [*zip(wanted.configs, wanted.names, strict=True), *wanted.evaluations]
        try:
            check_needs((config for config, _ in named), self.study.root, wanted.resources.activate)
        except UsageError:
            from lvjobs.control.planning.ledger_view import read_ledger

            there = {run.name for run in read_ledger(self.study, READ_WAIT_SECONDS).runs}
            new = (config for config, name in named if name not in there)
            check_needs(new, self.study.root, wanted.resources.activate)

    def _enter(self, wanted: RunRequest) -> tuple[Entered, Status]:
        with updating(self.study) as session:
            existing = {run.name: run for run in session.ledger.call(Transaction.runs)}
            if all(name in existing for name in wanted.names):
                refuse_ignored([existing[name] for name in wanted.names], self.given, wanted.profile)
            entered = enter(session, wanted)
            return entered, Status(session.make_pass())

    def _what_fits(self, wanted: RunRequest, error: OverBudget) -> tuple[Proposal, RunRequest]:
        """Return the proposal and the request that fit; if nothing fits, raise UsageError with what would."""
        with open_session(self.study) as session:
            found = what_fits(session, wanted, self.name_of)
            relief = what_helps(session, wanted) if found is None else None
        if found is not None:
            return found
        what, less = "each run", ["fewer runs"]
        if relief is not None:
            what = "the run, with its reserve for repeated steps,"
            pairs = (("--checkpoint-every", relief.checkpoint_every), ("--steps", relief.steps))
            less = [f"{option} {most} or less" for option, most in pairs if most]
        change = f"use {', or '.join(less)}, or " if less else ""
        raise UsageError(
            f"{error.shortfall}; not even one checkpoint interval of {what} fits, and nothing was submitted: {change}"
            f"raise the limit: {remedies.BUDGET_SET(*self.study.where)}"
        )


def refuse_ignored(runs: Iterable[RunRecord], given: Overrides, profile: str) -> None:
    """Refuse overrides that existing runs, if they are not over, would ignore. `profile` is the one that `given` names.

    Raises:
        UsageError: The run has another profile, or another value of a resource, than the caller gives.
    """
    asked = Resources.model_validate(dict(given.resources)).variables()
    for run in (run for run in runs if not run.state.is_final):
        other = {key: value for key, value in asked.items() if run.resources.get(key) != value}
        if given.profile and profile != run.profile:
            other["profile"] = given.profile
        if other:
            key, value = next(iter(other.items()))
            raise UsageError(
                f"{run.name} already exists ({run.state.value}), and {key} = {value} would have no effect: set it in "
                "study.toml, which applies from the run's next submission"
            )


def _submission(entered: Entered, status: Status, proposal: Proposal | None) -> Submission:
    """Return the result of a submission in plain values."""
    existing = {run.name: run.state.value for run in entered.existing}
    sent, new = entered.sent, entered.new
    if sent is None:
        return Submission("exists", status, existing, note=entered.note, fit=proposal)
    gone = {run.id for run in sent.runs}
    return Submission(
        sent.outcome.value,
        status,
        existing,
        [run.name for run in new],
        sent=len(sent.runs) if sent.outcome is SubmitOutcome.SUBMITTED else 0,
        waiting=sum(not run.after and run.id not in gone for run in new),
        shares_job=is_packed(sent.runs),
        job_id=sent.job_id,
        token=sent.token,
        said=sent.said,
        note=entered.note,
        fit=proposal,
    )


def prepare_run(
    study: StudyContext,
    given: Overrides,
    name: str | None,
    task: str | None = None,
    *,
    continues: str | None = None,
    evaluate: bool = False,
) -> PreparedRuns:
    """Prepare one run of `task`, or of the task of [train] in study.toml; or one that `continues` the run of that name.

    Raises:
        UsageError: `evaluate` is given for a task of the user's own; or see `prepare_training`, `prepare_task` and
            `prepare_continuation`.
    """
    if continues is not None:
        from lvjobs.api.continuation import prepare_continuation

        return prepare_continuation(study, given, name, continues, evaluate=evaluate)
    if task is None and "command" not in given.settings and not isinstance(study.config.train, OwnSettings):
        return prepare_training(study, given, name, evaluate=evaluate)
    if evaluate:
        raise UsageError("a task of your own makes no forecasts that could be evaluated: leave evaluate out")
    return prepare_task(study, given, name, task)


def prepare_training(
    study: StudyContext, given: Overrides, name: str | None = None, *, evaluate: bool = False
) -> PreparedRuns:
    """Prepare one run of the bundled training, and with `evaluate` its evaluation.

    Raises:
        UsageError: A setting or the data cannot be used, or [train] of study.toml names a task of your own.
    """
    from lvjobs.api.evaluate import evaluation_to_come

    if isinstance(study.config.train, OwnSettings):
        command = remedies.SUBMIT_TASK(*study.where)
        raise UsageError(f"[train] in study.toml names a task of your own; type: {command}")
    settings, resources, profile = settle(study, given)
    named = naming(name)
    config = pinned(settings, study).run_config()
    wanted = RunRequest([config], [named(config)], "train", profile, resources, is_named=bool(name))
    evaluation = partial(evaluation_to_come, study) if evaluate else None
    return PreparedRuns(study, wanted, named, evaluation, given)


def prepare_task(
    study: StudyContext, given: Overrides, name: str | None = None, task: str | None = None, file: Path | None = None
) -> PreparedRuns:
    """Prepare one run of a function or program of the user's own: `task`, or what `file` or study.toml declares.

    A `command` in the settings that are `given` is a program by itself.

    Raises:
        UsageError: No task is named, no job could run it, or a setting cannot be used.
    """
    settings, resources, profile = settle(study, given, own_settings(study, task, file, given))
    config = settings.run_config()
    check_task(study, config)
    named = naming(name)
    wanted = RunRequest([config], [named(config)], "run", profile, resources, is_named=bool(name))
    return PreparedRuns(study, wanted, named, given=given)


def naming(name: str | None) -> Callable[[RunConfig], str]:
    """Return a function that names a run: by this name, or else by its settings."""
    return lambda config: name or default_name(config)
