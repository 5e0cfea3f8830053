"""The way from a run directory to an exit code: claim, train, and finish, stop early or fail.

Each of these ends has its line in the journal. The exit codes are in `lvjobs.worker.environment`.
"""

import os
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from lvjobs.cluster import inside
from lvjobs.errors import LvjobsError, Superseded
from lvjobs.foreign import cleaned
from lvjobs.records.failure import RecordedError, record_error
from lvjobs.records.run_files import Done
from lvjobs.study.layout import RunLayout
from lvjobs.study.words import LeaveCause
from lvjobs.tasks.installed import installed
from lvjobs.worker import determinism, loading, signals
from lvjobs.worker.attempt import Attempt, runs_a_program
from lvjobs.worker.checkpoints import find_newest_valid, sweep_leftovers
from lvjobs.worker.early_exit import STRANDED, carry_out, deadline_of, decide_early_exit, gather_evidence
from lvjobs.worker.environment import (
    DONE,
    ERROR,
    EXITED_EARLY,
    INTERRUPTED,
    WANTS_REQUEUE,
    JobEnvironment,
    read_environment,
)
from lvjobs.worker.generation import claim_generation, is_superseded
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.parent import ParentUnusable, find_start
from lvjobs.worker.program.end import ProgramLost
from lvjobs.worker.ranks import LaunchedRanks, LostRank, exit_code_of, train_together
from lvjobs.worker.saved_files import finish
from lvjobs.worker.software import record_software
from lvjobs.worker.submission import Submission
from lvjobs.worker.task import function_of
from lvjobs.worker.versions import python_path, versions

_GIVING_UP = threading.Lock()


def _say(text: str) -> None:
    sys.stdout.write(f"lvjobs worker: {text}\n")
    sys.stdout.flush()  # a log may be followed while it grows


def _complain(text: str) -> None:
    sys.stderr.write(f"lvjobs worker: {cleaned(text)}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Run `python -m lvjobs.worker RUN_DIRECTORY`: a run, a pack, a test job or an agent. Return the exit code."""
    if len(arguments) != 1:
        _complain("usage: python -m lvjobs.worker RUN_DIRECTORY")
        return 2
    try:
        layout, environment = RunLayout(Path(arguments[0]).absolute()), read_environment(os.environ)
        if environment.is_probe:
            from lvjobs.worker.node_probe import probe_node

            return probe_node(layout.root, environment)
        if environment.node_rank:
            from lvjobs.worker.program.agent import serve

            return serve(layout, environment)
        if environment.pack:
            from lvjobs.worker.pack import PackRunner

            layouts = [RunLayout(layout.root.parent / name) for name in environment.pack]
            return PackRunner(layouts, environment, deadline_of(environment, time.time())).run()
        return execute(layout, environment)
    except (LvjobsError, OSError) as error:  # no journal exists yet, so the error goes to the log
        _complain(str(error))
        return ERROR


def execute(layout: RunLayout, environment: JobEnvironment) -> int:
    """Execute one attempt of the run and return the exit code (or exit by os._exit)."""
    if layout.done.exists():
        _say(f"{layout.root.name} is done already; nothing to do")
        return DONE
    submission = Submission(layout, environment.token)
    if submission.is_revoked:
        _say(f"submission {environment.token} may no longer train {layout.root.name}; nothing to do")
        return DONE
    config = submission.read_run()
    claim = claim_generation(layout, environment)
    submission.refresh()  # after the claim, which is durable: see lvjobs.worker.submission
    journal = JournalWriter(layout.journal(claim.generation))
    job_start = claim.time if environment.packed else min(environment.start_time or claim.time, claim.time)
    try:
        found, invalid = find_start(layout, config)
    except ParentUnusable as error:  # it is so at every attempt: the run is held
        journal.write("error", step=0, **RecordedError(type(error).__name__, str(error)).to_fields())
        raise
    if found is not None and runs_a_program(config) and found.name.step >= config.steps:
        # Its program was killed before it ended. Many programs train a step too many from the checkpoint of their last.
        found = find_newest_valid(layout, below=config.steps)[0] or found
    packages = {} if runs_a_program(config) else installed()  # a program has an environment of its own
    journal.write(
        "start",
        generation=claim.generation,
        token=claim.token,
        job_id=claim.job_id,
        restart_count=claim.restart_count,
        host=claim.host,
        node=environment.node,
        pid=claim.pid,
        resumed_from=str(found.name) if found else None,
        processes=environment.team,
        checkpoint_every=config.checkpoint_every,
        job_start=job_start,
        versions=versions(packages),
        python_path=python_path(),
    )
    if packages:
        for line in record_software(layout, claim.generation, journal, packages):
            _say(line)
    for name, problem in invalid.items():
        journal.write("invalid_checkpoint", name=str(name), problem=problem)
        _complain(f"checkpoint {name} is damaged and passed over: {problem}")
    trained = found.manifest.processes if found else environment.team
    if trained != environment.team:
        journal.write("other_processes", trained=trained, processes=environment.team)
        _complain(
            f"{layout.root.name} was trained with processes = {trained} and continues with {environment.team}: the "
            f"result is valid, but not bit for bit that of an undisturbed run"
        )
    sweep_leftovers(layout, claim.generation)
    deadline = deadline_of(environment, claim.time)
    attempt = Attempt(
        layout,
        config,
        claim.generation,
        submission,
        journal,
        found,
        invalid,
        deadline,
        job_start=job_start,
        processes=environment.team,
    )
    signals.report_at_once(attempt.journal_signal)
    return _train_and_close(attempt, environment)


def _train_and_close(attempt: Attempt, environment: JobEnvironment) -> int:
    try:
        done = _train(attempt, environment)
        if done is None:
            _exit_early(attempt, environment)
        attempt.journal.write("done", step=done.step, **done.metrics)
    except Superseded as error:
        _journal_and_exit(attempt, environment, LeaveCause.SUPERSEDED, str(error))
    except KeyboardInterrupt:
        _journal_and_exit(attempt, environment, LeaveCause.CANCELLED, "interrupted from the keyboard", code=INTERRUPTED)
    except ProgramLost as error:
        _lose(attempt, environment, LostRank(error.rank, error.code))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever ends a training function is reported
        if attempt.is_stranded:  # not an error of the code: the open journal is read where the study is now
            attempt.journal_signal(STRANDED)
            detail = f"{attempt.layout.root} is gone: its study was moved or deleted ({cleaned(str(error))})"
            _journal_and_exit(attempt, environment, LeaveCause.STOPPED, detail)
        _report_error(attempt, record_error(error, environment.node))
        code = ERROR
    else:
        early = "" if done.step >= attempt.config.steps else f" of {attempt.config.steps}: it ended early"
        _say(f"{attempt.layout.root.name} is done: {done.step} steps{early}")
        code = DONE
    if environment.has_job:
        # A preempted job may be executed again however it ends. A finished or a failed run must not be.
        signals.deafen()
        inside.forbid_requeue(environment.job_id)
    signals.end_children()
    _trigger_driver(environment)
    return code


def _train(attempt: Attempt, environment: JobEnvironment) -> Done | None:
    """Train to the last step, publish the result and return its marker; return None if the run has to stop early."""
    steps = attempt.config.steps
    if not attempt.is_over:
        if not attempt.may_begin():
            return None
        loading.begin()
        if not attempt.runs_a_program:
            determinism.pin_threads(attempt.config.threads)
            determinism.make_deterministic(attempt.config.threads, attempt.config.seed)
        task = function_of(attempt.config)
        if attempt.must_stop():  # loading used seconds of the grace period, which are needed to stop
            return None
        try:
            if environment.team > 1 and not attempt.runs_a_program:
                train_together(attempt, environment, partial(_give_up, attempt, environment))
            else:
                task(attempt)
        finally:
            sweep_leftovers(attempt.layout, attempt.generation + 1)  # what `resume` unpacked
    if attempt.done:
        return attempt.done
    if attempt.is_over:
        # Found and verified again: a run is done only if its last checkpoint can be read.
        found, _ = find_newest_valid(attempt.layout)
        last = attempt.checkpointed
        if found is not None and found.name.step >= last:
            return finish(attempt.layout, attempt.generation, found)
        raise LvjobsError(
            f"the checkpoint of step {last} was written, but does not read back: see {attempt.layout.steps}"
        )
    if attempt.must_stop():
        return None
    raise LvjobsError(
        f"{attempt.config.task} returned after step {attempt.logged} with {attempt.checkpointed} of {steps} steps in a "
        f"checkpoint, and nothing had asked it to stop. Let it checkpoint step {steps}, then return"
    )


def _give_up(attempt: Attempt, environment: JobEnvironment, ranks: LaunchedRanks, loss: LostRank) -> NoReturn:
    """End at once, from any thread: with the error of the process that failed, else like a worker that was killed."""
    with _GIVING_UP:
        _complain(f"{attempt.layout.root.name}: {loss}")
        if loss.error:
            _journal_error(attempt, replace(loss.error, node=loss.node or environment.node))
            if environment.has_job:
                inside.forbid_requeue(environment.job_id)
            ranks.close()
            sweep_leftovers(attempt.layout, attempt.generation + 1)
            _exit_at_once(ERROR, environment)
        ranks.close()
        _lose(attempt, environment, loss)


def _lose(attempt: Attempt, environment: JobEnvironment, loss: LostRank) -> NoReturn:
    """End like a worker that was killed: without a closing line, so that Slurm's record says why."""
    where = {"node": loss.node} if loss.node else {}
    attempt.journal.write("lost_process", rank=loss.rank, status=loss.status, **where)
    sweep_leftovers(attempt.layout, attempt.generation + 1)
    _exit_at_once(exit_code_of(loss), environment)


def _exit_early(attempt: Attempt, environment: JobEnvironment) -> NoReturn:
    assert attempt.reason is not None
    signals.deafen()  # another signal adds nothing, and scontrol must not be killed by it
    superseded = is_superseded(attempt.layout, attempt.generation)
    decision = decide_early_exit(gather_evidence(attempt.reason, environment, superseded=superseded))
    action, detail = carry_out(decision, environment)
    if attempt.checkpointed < attempt.logged:
        detail += f"; steps after {attempt.checkpointed} are in no checkpoint"
    code = WANTS_REQUEUE if action == "asked" else EXITED_EARLY
    _journal_and_exit(attempt, environment, decision.cause, detail, action, code)


def _journal_and_exit(
    attempt: Attempt,
    environment: JobEnvironment,
    cause: LeaveCause,
    detail: str,
    action: str = "none",
    code: int = EXITED_EARLY,
) -> NoReturn:
    attempt.journal.write("leave", cause=cause.value, step=attempt.logged, action=action, detail=detail)
    _say(f"{attempt.layout.root.name} leaves at step {attempt.logged}: {cause.value} ({detail})")
    _exit_at_once(code, environment)


def _trigger_driver(environment: JobEnvironment) -> None:
    """Trigger the driver, as the last step, so that the study continues now and not at the driver's next turn."""
    if environment.driver:
        with signals.shielded():
            inside.wake(environment.driver)


def _exit_at_once(code: int, environment: JobEnvironment) -> NoReturn:
    """End without clean-up: a grace period is short, and no thread or exit hook may delay the end."""
    signals.end_children()
    _trigger_driver(environment)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report_error(attempt: Attempt, error: RecordedError) -> None:
    if not attempt.runs_a_program:  # a program printed its own traceback
        sys.stderr.write(error.traceback)
    _complain(f"{attempt.layout.root.name} failed: {error}")
    try:
        attempt.must_stop()  # a signal that came before the error is evidence and gets its own line
        _journal_error(attempt, error)
    except LvjobsError as unwritable:
        _complain(str(unwritable))


def _journal_error(attempt: Attempt, error: RecordedError) -> None:
    attempt.journal.write("error", step=attempt.logged, **error.to_fields())
