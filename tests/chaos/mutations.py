"""Takes the guards away one at a time, in a copy of the sources, and sees the suite fail each time.

    python tests/chaos/mutations.py [NAME ...]

Runs the tests that should notice, first with the guard (they must pass), then without it (one must fail).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Mutation:
    """A part that is taken away: `old`, which stands in `file` once, becomes `new`; and where that should be noticed."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_HARVEST = "lvjobs/worker/program/harvest.py"
_PROGRAM_TESTS = "unit/worker/program/test_attempts_of_programs.py"

_AGENT, _NODES = "lvjobs/worker/program/agent.py", "lvjobs/worker/program/nodes.py"
_END = "lvjobs/worker/program/end.py"
_NODE_TESTS = "unit/worker/program/test_nodes.py"
_LAUNCH_TESTS = "unit/worker/program/test_launch.py"
_RANKS, _RANK_TESTS = "lvjobs/worker/ranks.py", "unit/worker/test_ranks.py"

_REHEARSAL = "lvjobs/rehearsal/"

_HALVING = "lvjobs/control/stages/halving.py"

MUTATIONS = {
    "the wait for what a launcher left behind at a signal": Mutation(
        "lvjobs/worker/program/stop.py",
        "return is_asked and program.has_left_processes and",
        "return False and",
        (f"{_PROGRAM_TESTS}::test_a_launcher_that_ends_at_the_signal_does_not_end_the_save_of_what_it_started",),
    ),
    "the stop at a rung": Mutation(
        "lvjobs/worker/attempt.py",
        "return 0 < self.submission.stop_at <= reached < self.config.steps",
        "return False",
        ("unit/worker/test_attempts.py::test_a_run_stops_at_its_rung_and_the_next_submission_goes_on_from_there",),
    ),
    "the wait for all runs at a rung": Mutation(
        _HALVING, "if late and not skipped:", "if False:", ("unit/control/stages/test_halving.py",)
    ),
    "the mean of validations at a rung": Mutation(
        "lvjobs/sweep/pruning.py",
        "if rung <= 2 * step <= 2 * rung)",
        "if step == rung)",
        ("unit/sweep/test_pruning.py",),
    ),
    "the room for the runs that continue from a rung": Mutation(
        "lvjobs/control/stages/submit_runs.py",
        "shortfall = shortfall or _shortfall_beyond_the_rung(transaction, wanted, declared.new, session)",
        "pass",
        ("unit/control/stages/test_halving.py",),
    ),
    "a fault before a verdict": Mutation(
        _REHEARSAL + "verdict.py", "if not disturbed.met:", "if False:", ("unit/rehearsal/test_verdict.py",)
    ),
    "the second undisturbed run": Mutation(
        _REHEARSAL + "verdict.py",
        "kept = [each for each in found if each.what not in names]",
        "kept = found",
        ("unit/rehearsal/test_verdict.py",),
    ),
    "a file that was open, is closed, and is opened for a save": Mutation(
        _REHEARSAL + "saves.py",
        "open_since_before &= written",
        "pass",
        ("unit/rehearsal/test_processes.py",),
    ),
    "the wait until an older directory is deleted": Mutation(
        _REHEARSAL + "escapes.py",
        "if not self._has_begun(newest):",
        "if not newest:",
        ("unit/rehearsal/test_processes.py",),
    ),
    "the end of an agent with its generation": Mutation(
        _AGENT,
        "                if is_superseded(self._layout, self._orders.generation):",
        "                if False:",
        (_NODE_TESTS,),
    ),
    "the end of an agent whose worker is silent": Mutation(
        _AGENT,
        "return self._orders.is_over or self._silent > self._patience",
        "return self._orders.is_over",
        (_NODE_TESTS,),
    ),
    "the execution that an agent's orders are for": Mutation(
        _AGENT,
        "if orders is not None and orders.execution == environment.execution:",
        "if orders is not None:",
        (_NODE_TESTS,),
    ),
    "the question to other nodes who writes a checkpoint": Mutation(
        _NODES, "there = self._others.open_files()", "there = set()", (_NODE_TESTS,)
    ),
    "the loss of a node that does not answer": Mutation(
        _END, "    if outcome.is_lost:", "    if False:", (_LAUNCH_TESTS,)
    ),
    "the error of a process that lost a peer": Mutation(
        _END, "return 3 if lost_a_peer(end.tail) else 2", "return 2", (_LAUNCH_TESTS,)
    ),
    "the end of a process that lvjobs killed itself": Mutation(
        _END, "        if end.is_ours:", "        if False:", (_LAUNCH_TESTS,)
    ),
    "the watch for a failure on another node": Mutation(
        _RANKS,
        "if self._here.ends or (self._others is not None and self._others.has_failed):",
        "if self._here.ends:",
        (_RANK_TESTS,),
    ),
    "the end of a follower that only lost a peer": Mutation(
        _RANKS, "if end.code != PEER_LOST and not end.is_ours:", "if not end.is_ours:", (_RANK_TESTS,)
    ),
    "the shield of followers from signals": Mutation(
        _RANKS, "with signals.shielded():", "with contextlib.nullcontext():", (_RANK_TESTS,)
    ),
    "the look at who still writes a program's checkpoint": Mutation(
        _HARVEST,
        "        if open_files := self.files_being_written(path.resolve()):",
        "        if open_files := set():",
        ("unit/worker/program/test_harvest.py",),
    ),
    "the check that a program's files are whole": Mutation(
        _HARVEST,
        "                if flaw := flaw_of(target):",
        "                if flaw := '':",
        ("unit/worker/program/test_harvest.py",),
    ),
    "the second look at a program's checkpoint": Mutation(
        _HARVEST,
        '        if now != before:\n            raise ValueError(f"{path.name} changed',
        '        if False:\n            raise ValueError(f"{path.name} changed',
        ("unit/worker/program/test_harvest.py",),
    ),
    "the marker of a program's checkpoint": Mutation(
        _HARVEST,
        "        if self._complete and not (path / self._complete).exists():",
        "        if False:",
        ("unit/worker/program/test_harvest.py",),
    ),
    "the copy of a checkpoint that is written in place": Mutation(
        _HARVEST,
        "before=now, link=not in_place and not path.is_symlink())",
        "before=now, link=True)",
        ("unit/worker/program/test_harvest.py",),
    ),
    "the doubt of an exit code of 0": Mutation(
        "lvjobs/worker/program/end.py",
        "    if code == 0 and outcome.step + unreported >= outcome.steps:",
        "    if code == 0:",
        (_PROGRAM_TESTS,),
    ),
    "the fence before a program is judged": Mutation(
        "lvjobs/worker/program/execution.py",
        "    check_fence(attempt.layout, attempt.generation)  # a newer generation",
        "    # a newer generation",
        (f"{_PROGRAM_TESTS}::test_a_program_of_an_older_generation_publishes_nothing",),
    ),
    "the look at whether a program uses its checkpoint": Mutation(
        "lvjobs/worker/program/execution.py",
        "        if not self._reports and step <= given // 2",
        "        if False and step <= given // 2",
        (f"{_PROGRAM_TESTS}::test_a_program_that_ignores_its_checkpoint_is_held",),
    ),
    "the end of all processes of a program": Mutation(
        "lvjobs/worker/program/process.py",
        "        while (left := descendants(self._others)) and",
        "        while (left := [p for p in descendants() if p == self._process.pid]) and",
        (f"{_PROGRAM_TESTS}::test_a_program_trains_on_after_a_signal_until_its_next_checkpoint",),
    ),
    "the fence before a checkpoint is published": Mutation(
        "lvjobs/worker/generation.py",
        "    newest = newest_generation(layout)\n    if newest > generation:",
        "    newest = newest_generation(layout)\n    if newest < 0:",
        ("unit/worker/test_generation.py", "unit/worker/test_checkpoints.py"),
    ),
    "the look at whether the study is a copy": Mutation(
        "lvjobs/control/recovery/place.py",
        "    if any(_lives_at(recorded.study, name) for name in names):",
        "    if False:",
        ("unit/control/recovery/test_place.py::test_a_copy_does_not_touch_the_jobs_of_its_original",),
    ),
    "the done marker, looked for before a generation is claimed": Mutation(
        "lvjobs/worker/runner.py",
        "    if layout.done.exists():\n        _say",
        "    if False:\n        _say",
        ("unit/worker/test_attempts.py::test_done_is_done",),
    ),
    "the done marker, believed whatever Slurm says": Mutation(
        "lvjobs/control/reconcile/decide.py",
        "        elif self.view.done is not None:\n            yield from self._complete(self.view.done)",
        "        elif False:\n            pass",
        ("unit/control/test_loop.py::test_a_done_marker_completes_whatever_slurm_says",),
    ),
    "the token lookup after an unclear sbatch": Mutation(
        "lvjobs/control/reconcile/observe.py",
        "[submission.token for submission in sent]",
        "[submission.token for submission in sent if submission.job_id]",
        ("unit/control/test_loop_submit.py",),
    ),
    "the revocation of a submission whose run went on elsewhere": Mutation(
        "lvjobs/worker/submission.py",
        "        self.is_revoked |= name in orders.revoked\n",
        "",
        ("unit/worker/test_attempts.py::test_revoked",),
    ),
    "the reading of orders once the claim is durable": Mutation(
        "lvjobs/worker/runner.py",
        "    submission.refresh()  # after the claim, which is durable: see lvjobs.worker.submission\n",
        "",
        ("unit/worker/test_attempts.py::test_a_revocation_between_the_first_look_and_the_claim_is_seen",),
    ),
    "the end of a torn order before the next one": Mutation(
        "lvjobs/files.py",
        'stream.write(b"\\n" + line if is_torn else line)',
        "stream.write(line)",
        ("unit/records/test_submission.py::test_a_torn_order_is_ended_and_given_again",),
    ),
    "the listing of a run directory before anything in it is looked for": Mutation(
        "lvjobs/control/reconcile/observe.py",
        "names_in(files.root) if run.name in there else frozenset()",
        "names_in(files.root)",
        ("unit/control/reconcile/test_cached_names.py",),
    ),
    "the sync of a submission's file before its row": Mutation(
        "lvjobs/control/submission/send.py",
        "        write_submission(study, token, runs, steps, gpu_allowances(transaction, study, bounded, shared_jobs(runs)))\n",
        "",
        ("unit/control/test_loop_submit.py::test_runs_that_wait_have_one_file_for_all_of_them",),
    ),
    "the limit of GPU-hours at a submission": Mutation(
        "lvjobs/control/submission/send.py",
        "extra.fits(books.room)",
        "extra.flops <= books.room.flops",
        ("unit/control/budget/test_gpu_hours.py::test_a_sweep_that_does_not_fit_is_refused_as_a_whole",),
    ),
    "the end of a worker whose GPU-hours are used up": Mutation(
        "lvjobs/worker/attempt.py",
        "        return OUT_OF_GPU_HOURS if is_over else None\n",
        "        return None\n",
        ("unit/worker/test_gpu_allowance.py",),
    ),
    "the GPU-seconds of earlier generations": Mutation(
        "lvjobs/worker/allowance.py",
        " / allowed.gpus - sum(spans)",
        " / allowed.gpus",
        ("unit/worker/test_gpu_allowance.py",),
    ),
    "the fsync of a checkpoint before the rename": Mutation(
        "lvjobs/worker/tensor_file.py",
        "        os.fsync(stream.fileno())\n",
        "",
        ("unit/worker/test_checkpoints.py",),
    ),
    "a checkpoint's own hash, checked before it is used": Mutation(
        "lvjobs/worker/tensor_file.py",
        'if self._header[_AT:end] != digest.hexdigest().encode("ascii") or self._stream.read(1):',
        "if self._stream.read(1):",
        ("unit/worker/test_checkpoints.py",),
    ),
    "the parent of a checkpoint": Mutation(
        "lvjobs/worker/checkpoints.py",
        "        chain.parent = digest\n",
        "        pass\n",
        ("unit/worker/test_checkpoints.py",),
    ),
    "the journal on disk before a checkpoint proves it": Mutation(
        "lvjobs/worker/journal.py",
        "            os.fsync(stream.fileno())\n",
        "",
        ("unit/worker/test_checkpoints.py",),
    ),
    "the fsync of any small file before its rename": Mutation(
        "lvjobs/files.py",
        "            _for_each(_fsync, list(asides.values()))\n",
        "            pass\n",
        ("unit/test_files.py",),
    ),
    "the fsync of a claim before it is published": Mutation(
        "lvjobs/files.py",
        "        _fsync(aside)\n        if not link_new",
        "        if not link_new",
        ("unit/test_files.py",),
    ),
    "a claim whose answer NFS lost is won": Mutation(
        "lvjobs/files.py",
        "return os.fstat(stream.fileno()).st_nlink > 1",
        "return False",
        ("unit/test_files.py",),
    ),
    "what is seen late on a network file system is waited for": Mutation(
        "lvjobs/control/reconcile/observe.py",
        "return ended + seconds if now < ended + seconds else None",
        "return None",
        ("unit/control/reconcile/test_cached_names.py",),
    ),
    "a file aside is new, and no link to another": Mutation(
        "lvjobs/files.py",
        "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_CREAT | os.O_TRUNC",
        ("unit/test_files.py",),
    ),
    "the lease of a holder that lives": Mutation(
        "lvjobs/ledger/lease.py",
        "        if (free or clock() - since >= term) and create_exclusive(",
        "        if create_exclusive(",
        ("unit/ledger/test_lease.py",),
    ),
    "the epoch in the ledger, for a holder that slept": Mutation(
        "lvjobs/ledger/database.py",
        "        if epoch > self._epoch or (epoch",
        "        if (epoch",
        ("unit/ledger/test_database.py", "unit/control/test_loop_lost.py"),
    ),
    "a change by a holder that woke up before its successor's first": Mutation(
        "lvjobs/ledger/database.py",
        "self._version not in (None, version)",
        "False",
        ("unit/ledger/test_database.py",),
    ),
    "the number of a lease above the ledger's epoch": Mutation(
        "lvjobs/ledger/lease.py",
        "max(number, above) + 1",
        "number + 1",
        ("unit/ledger/test_lease.py",),
    ),
    "the checksum of a line of the ledger's log, torn or damaged": Mutation(
        "lvjobs/ledger/log.py",
        'checksum != b"%08x" % zlib.crc32(text)',
        "not text",
        ("unit/ledger/test_log.py",),
    ),
    "the sync of a new log before it replaces the old one": Mutation(
        "lvjobs/ledger/log.py",
        "durable=not self._is_new",
        "durable=False",
        ("unit/ledger/test_log.py",),
    ),
    "the number of the log's last commit, compared with the ledger's": Mutation(
        "lvjobs/ledger/database.py",
        "            elif log.last != commit:",
        "            elif log.last is None:",
        ("unit/ledger/test_log.py",),
    ),
    "the sync of a commit": Mutation(
        "lvjobs/ledger/database.py",
        "            fsync_directory(Path(str(self._engine.url.database)).parent)",
        "            pass",
        ("unit/ledger/test_database.py",),
    ),
    "the revocation of a submission that only run directories know": Mutation(
        "lvjobs/control/recovery/recover.py",
        "    return MemberState.REVOKED if is_revoked else MemberState.SETTLED",
        "    return MemberState.SETTLED",
        ("unit/control/recovery/test_rebuild_log.py",),
    ),
    "the end of a torn line before the next is written": Mutation(
        "lvjobs/worker/journal.py",
        'data = b"\\n" + line if self._torn else line',
        "data = line",
        ("unit/worker/test_journal.py",),
    ),
    "a torn last line is left for the next reading": Mutation(
        "lvjobs/records/journal.py",
        '    end = data.rfind(b"\\n") + 1',
        "    end = len(data)",
        ("unit/worker/test_journal.py", "unit/test_disk_faults.py"),
    ),
}


def sources(directory: Path) -> None:
    """A copy of all that git knows, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)


def passes(directory: Path, tests: tuple[str, ...]) -> bool:
    """Return whether the tests pass there."""
    there = [f"tests/{test}" for test in tests if (directory / "tests" / test.partition("::")[0]).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *there]
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> None:
    """Each in turn; exit 1 if one was not noticed."""
    unseen = 0
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        sources(directory)
        for name, mutation in MUTATIONS.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            path = directory / mutation.file
            text = path.read_text(encoding="utf-8")
            if text.count(mutation.old) != 1:
                raise SystemExit(f"{name}: {mutation.old!r} does not stand once in {mutation.file}")
            sound = passes(directory, mutation.tests)
            path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
            noticed = not passes(directory, mutation.tests)
            path.write_text(text, encoding="utf-8")
            unseen += not (sound and noticed)
            verdict = "noticed" if sound and noticed else "NOT NOTICED" if sound else "FAILS ANYWAY"
            print(f"{verdict:<12} without {name}", flush=True)
    sys.exit(unseen > 0)


if __name__ == "__main__":
    main()
