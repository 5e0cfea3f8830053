"""The user's commands for existing runs: cancel, pause, resume."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs import remedies
from lvjobs.control.backends import profile_of
from lvjobs.control.reconcile.act import act
from lvjobs.control.reconcile.actions import Action, Revoke, SetRun
from lvjobs.control.session import Session, refuse_archived
from lvjobs.control.submission.declare import changes_of, differences, renewed
from lvjobs.control.submission.submission_files import write_again
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.software import changed_code, changed_packages, record_of, shortened
from lvjobs.study.layout import StudyLayout
from lvjobs.study.run_names import find_name
from lvjobs.study.words import Cause, HeldFor, MemberState, RunState, StageState
from lvjobs.tasks.code_copies import CodeCopy, ProgramFiles, find_tasks, snapshot_code
from lvjobs.tasks.origin import first_lines, origin_of, read_origin
from lvjobs.tasks.packages import read_packages
from lvjobs.tasks.registry import program_files


def find_runs(transaction: Transaction, wanted: Sequence[str], where: Sequence[str] = ()) -> list[RunRecord]:
    """Return the runs with these names (or unambiguous beginnings or ends, see `study.names`) or ids, in order.

    `where` is `StudyContext.where`, for commands at the prompt.

    Raises:
        UsageError: A word names no run of this study, or several.
    """
    runs = {run.name: run for run in transaction.runs()}
    by_id = {run.id: run for run in runs.values()}
    return [by_id.get(word) or runs[find_name(word, runs, where)] for word in wanted]


def cancel(session: Session, wanted: Sequence[str]) -> list[str]:
    """Cancel runs for good, and revoke their submissions, so that their jobs train nothing from now on.

    The next pass cancels the jobs. This function does not, because it has only the ledger's job ids: after a scheduler
    lost its state, these may be the ids of other jobs.

    Args:
        session: The study.
        wanted: Names or ids of runs.

    Returns:
        One line for each thing that was done.

    Raises:
        UsageError: A run does not exist.
    """
    return _end(session, wanted, SetRun("", RunState.CANCELLED, cause=Cause.CANCELLED, note="cancelled by the user"))


def pause(session: Session, wanted: Sequence[str], why: str, *, held_for: HeldFor) -> list[str]:
    """End the runs' jobs as `cancel` does, but so that the runs can be resumed from their last checkpoints.

    `why` is the reason in words, `held_for` the same for the ledger. Returns and raises what `cancel` does.
    """
    cause = Cause.CANCELLED
    return _end(session, wanted, SetRun("", RunState.PAUSED, why, cause, note=f"paused: {why}", held_for=held_for))


def _end(session: Session, wanted: Sequence[str], change: SetRun) -> list[str]:
    with session.ledger.transaction() as transaction:
        runs = find_runs(transaction, wanted, session.study.where)
        tokens = {member.run_id: member.token for member in transaction.members() if member.state is MemberState.LIVE}
    actions: list[Action] = []
    told = []
    for run in runs:
        if run.state.is_final:
            told.append(f"{run.name} is already {run.state.value}")
            continue
        if run.id in tokens:
            actions.append(Revoke(tokens[run.id], run.id))
        actions.append(replace(change, run_id=run.id))
    return told + act(actions, session.study, session.ledger, {}, session.terms, session.clock())


class PackagesChanged(UsageError):
    """The refusal to resume runs whose environments have other packages than their last attempts had.

    `lines` has one line for each of these runs.
    """

    def __init__(self, found: Mapping[str, str], where: Sequence[str]) -> None:
        self.lines = [f"{name}: its packages changed since {words}" for name, words in found.items()]
        command = remedies.RESUME_PACKAGES(*where, run=list(found))
        super().__init__(
            f"{'; '.join(self.lines)}; nothing was resumed: restore the packages, or accept the changes: {command}"
        )


def resume_runs(
    session: Session,
    wanted: Sequence[str],
    typed: Mapping[str, Any],
    where: Sequence[str] = (),
    *,
    accept_packages: bool = True,
    cancelled: bool = False,
) -> list[str]:
    """Resume held and paused runs, with the current code and settings and no retries used.

    With `cancelled`, also submit cancelled runs again: each gets a new token and reservation, and its evaluations that
    were cancelled with it are planned again. The revoked token stays revoked. For any other run, write run.json again
    if it is lost, damaged or edited, because no submission will.

    Args:
        session: The study.
        wanted: Names or ids of runs.
        typed: Settings of `lvjobs.study.config` that the user typed; they override study.toml.
        where: `StudyContext.where`, for commands at the prompt. A pass gives none, because the ledger keeps its errors.
        accept_packages: Whether a run with a checkpoint may continue with other packages than it had.
        cancelled: Whether cancelled runs are submitted again, too.

    Returns:
        What was done, one line for each run.

    Raises:
        PackagesChanged: A run would continue with other packages. No run was changed.
        UsageError: A run does not exist, or the settings do not fit it. No run was changed.
    """
    runs = session.ledger.call(find_runs, wanted, session.study.where)
    for run in runs:
        refuse_archived(session.study, run.name)
    resting = {RunState.HELD, RunState.PAUSED} | ({RunState.CANCELLED} if cancelled else set())
    now = {run.id: renewed(run, session.study, typed, where) for run in runs if run.state in resting}
    there = {run_id for run_id, run in now.items() if not session.absence(profile_of(session.study.layout, run))}
    root = session.study.root
    sources = {run.id: (run.config["task"], program_files(run.config, root)) for run in runs if run.id in there}
    find_tasks(root, [task for task, _ in sources.values()])
    origins = {
        run_id: origin_of(now[run_id].config, program, now[run_id].resources, root)
        for run_id, (_, program) in sources.items()
    }
    if not accept_packages:
        _refuse_other_packages(session, [run for run in runs if run.id in sources], origins, where)
    copies = _copies(session.study.layout, sources, origins)
    written = {run.id for run in write_again(session.study, [run for run in runs if run.id not in now])}
    told = list(dict.fromkeys(copy.note for copy in copies.values() if copy.note))
    with session.ledger.transaction() as transaction:
        for run in runs:
            if run.id not in now:
                told.append(f"{run.name}: is {run.state.value}{_not_resumed(run, run.id in written, where)}")
                continue
            if run.id not in there:
                told.append(f"{run.name}: stays {run.state.value}; it cannot be resumed from this host")
                continue
            attempts, code = transaction.attempts([run.id]), copies[run.id].name
            transaction.update_run(
                run.id,
                state=RunState.INTERRUPTED if attempts else RunState.PLANNED,
                reason="resumed by the user",
                cause=None if run.state is RunState.CANCELLED and not attempts else run.cause,
                held_for=HeldFor.NOTHING,
                stop_at=0 if run.held_for is HeldFor.RUNG else run.stop_at,
                not_before=0.0,
                forgiven_until=max((attempt.id for attempt in attempts), default=0),
                code=code,
                **changes_of(run, now[run.id]),
            )
            note = "resumed by the user" + (" with the current code" if code != run.code else "")
            if words := changed_code(read_origin(session.study.layout.code / run.code), origins[run.id]):
                note += f" ({shortened(words)})"
            if changed := differences(run, now[run.id]):
                note += f"; {changed}"
            transaction.add_event(Event(session.clock(), "resumed", note, run.id))
            told.append(f"{run.name}: {note}")
            if run.state is RunState.CANCELLED:
                told += _planned_again(transaction, run, session.clock())
        told += _reopened(transaction, there, session.clock())
    return told


def _not_resumed(run: RunRecord, is_written: bool, where: Sequence[str]) -> str:
    """Return the rest of the line on a run that is not resumed."""
    if is_written:
        return "; run.json is written again"
    if run.state is RunState.CANCELLED:
        return f" and cannot be resumed; to submit it again: {remedies.RETRY(*where, run=run.name)}"
    return "; it cannot be resumed"


def _planned_again(transaction: Transaction, run: RunRecord, now: float) -> list[str]:
    """Plan the runs again that depend on a run and were cancelled with it; return a line for each."""
    lines = []
    for each in transaction.runs():
        if each.after == run.id and each.state is RunState.CANCELLED:
            transaction.update_run(each.id, state=RunState.PLANNED, cause=None, reason=f"depends on {run.name}")
            transaction.add_event(Event(now, "resumed", f"planned again, as {run.name} is", each.id))
            lines.append(f"{each.name}: planned again, as {run.name} is")
    return lines


def _reopened(transaction: Transaction, resumed: Collection[str], now: float) -> list[str]:
    """Let held stages of the `resumed` runs (ids) be decided by these; return a line for each stage."""
    cells, lines = transaction.cells(), []
    for record in transaction.stages():
        if record.state is StageState.HELD and not set(cells.get(record.name, ())).isdisjoint(resumed):
            transaction.update_stage(record.name, state=StageState.RUNNING, reason="")
            lines.append(f"{record.name}: continues, as its runs do")
            transaction.add_event(Event(now, "stage", lines[-1]))
    return lines


def _copies(
    layout: StudyLayout,
    sources: Mapping[str, tuple[str, ProgramFiles | None]],
    origins: Mapping[str, Mapping[str, Any]],
) -> dict[str, CodeCopy]:
    """Return the copy of the code for each run, by its id. Runs with the same code and origin share one."""
    made: dict[str, CodeCopy] = {}
    for run_id, source in sources.items():
        alike = next((each for each in made if (sources[each], origins[each]) == (source, origins[run_id])), None)
        made[run_id] = made[alike] if alike else snapshot_code(layout.code, *source, origins[run_id])
    return made


def _refuse_other_packages(
    session: Session, runs: Sequence[RunRecord], origins: Mapping[str, Mapping[str, Any]], where: Sequence[str]
) -> None:
    """Refuse to continue from a checkpoint with other packages than those of the run's last attempt.

    Raises:
        PackagesChanged: A run's environment has other packages now.
    """
    found, store = {}, session.study.layout.packages
    for run in runs:
        attempts = session.ledger.call(Transaction.attempts, [run.id])
        numbers = [attempt.generation for attempt in attempts if attempt.generation is not None]
        if not numbers or not any(attempt.checkpoint_step for attempt in attempts):
            continue  # nothing would be continued
        entries = first_lines(session.study.layout.run(run.name).journal(numbers[-1]))
        before = read_packages(store, (record_of(entries) or {}).get("packages", ""))
        now = read_packages(store, origins[run.id].get("packages", ""))
        has_more = any(entry.fields.get("python_path") for entry in entries if entry.kind == "start")
        if before and now and not has_more and (changes := changed_packages(before, now)):
            found[run.name] = f"attempt {numbers[-1]}: {shortened(changes)}"
    if found:
        raise PackagesChanged(found, where)
