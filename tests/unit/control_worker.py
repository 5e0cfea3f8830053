"""A worker of few words for the simulated cluster: it claims, steps, checkpoints, leaves and finishes as the real one
does, in the same files and formats, and it keeps the truth that the ledger's charges are compared with.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field

from lvjobs.records.failure import RecordedError, breakdown_of
from lvjobs.records.journal import Entry
from lvjobs.records.run_files import MANIFEST, CheckpointName, Claim, Done, Manifest, parse_checkpoint_name
from lvjobs.study.layout import RunLayout
from lvjobs.worker.allowance import AllowanceMeter
from lvjobs.worker.generation import newest_generation
from lvjobs.worker.submission import Submission

LOOK_EVERY = 10
"""Steps between an orphan's looks at whether a newer generation exists (the real worker's ten seconds)."""


@dataclass
class Work:
    """One execution of one job, as its process knows it."""

    files: RunLayout
    token: str
    generation: int
    step: int
    taken: int = 0
    gone: bool = False

    def tell(self, now, kind, **fields):
        self.files.journals.mkdir(exist_ok=True)
        with self.files.journal(self.generation).open("a") as stream:
            stream.write(Entry(kind, now, fields).to_line())

    def newest(self):
        return newest_generation(self.files)


@dataclass
class Worker:
    """`on_step` of a simulated cluster. `deaf` tokens and names do not leave at signals; `dumb` ones write nothing, and
    `mute` ones claim a generation and write nothing after that.
    """

    cluster: object = None
    works: dict = field(default_factory=dict)
    executed: dict = field(default_factory=lambda: defaultdict(int))
    trained: dict = field(default_factory=lambda: defaultdict(set))
    """Run name -> the jobs that took a step of it."""
    overlaps: list = field(default_factory=list)
    last: dict = field(default_factory=dict)
    deaf: set = field(default_factory=set)
    dumb: set = field(default_factory=set)
    mute: set = field(default_factory=set)
    failing: dict = field(default_factory=dict)
    """Run name -> the step at which it fails, and `said`: with which words."""
    said: dict = field(default_factory=dict)
    ending: dict = field(default_factory=dict)
    """Run name -> the step at which its training function ends it."""
    requeues: bool = True
    losses: dict = field(default_factory=dict)
    """Beginning of a run's name -> the loss of its first step, which falls with the steps."""
    silent: bool = False
    """Steps have no loss."""
    is_timed: bool = False
    """Steps have their duration, so that the pace of runs is measured."""
    ignores_time: bool = False
    """It goes on beyond its GPU-hours, as a worker of an older release."""

    broken: dict = field(default_factory=dict)
    """Node -> what CUDA says at each step there."""
    versions: dict = field(default_factory=dict)
    """What a worker that starts now has of packages and devices."""

    killed: set = field(default_factory=set)
    """Runs whose worker, of a job that they share, is killed at its next step."""
    packs: dict = field(default_factory=dict)

    def __call__(self, job):
        names = job.request.environment.get("LVJOBS_PACK", "").split()
        return self._pack(job, names) if names else self._one(job, RunLayout(job.run_directory))

    def _pack(self, job, names):
        """As `lvjobs.worker.pack` does it."""
        key = (job.id, job.request.token, job.restart_count)
        waiting, running, codes = self.packs.setdefault(key, (list(names), [], []))
        files = {name: RunLayout(job.run_directory.parent / name) for name in names}
        while waiting and not job.signals and len(running) < int(job.request.environment["LVJOBS_SIDE_BY_SIDE"]):
            name = waiting.pop(0)
            if not files[name].done.exists() and not Submission(files[name], key[1]).is_revoked:
                running.append(name)
        for name in list(running):
            code = self._one(job, files[name], name)
            if name in self.killed and (*key, name) in self.works:
                self.killed.remove(name)
                self.works[(*key, name)].tell(self.now, "died", status=-9)
                code = -9
            if code is not None:
                running.remove(name)
                codes.append(code)
        if running or (waiting and not job.signals):
            return None
        if "asked" in codes or (waiting and self._requeues_itself(job)):
            self.cluster.requeue(job.id)
        return 75 if waiting or {"asked", 75, -9} & set(codes) else max(codes, default=0)

    def _requeues_itself(self, job):
        by_slurm = job.signals[-1] != "SIGUSR2" and self.cluster.manners.preempt_mode == "requeue"
        return self.requeues and not by_slurm

    def _one(self, job, files, *member):
        """A step of one run; `member` is its name where the job is shared."""
        key = (job.id, job.request.token, job.restart_count, *member)
        if key not in self.works:
            return self._begin(key, job, files)
        work = self.works[key]
        if files.root.name in self.mute:
            return None
        if work.gone:
            return 75
        return self._go_on(key, job, work, is_orphan=job.orphan_steps is not None)

    # -- an attempt -------------------------------------------------------------------------------------------------

    def _begin(self, key, job, files):
        token = job.request.token
        submission = Submission(files, token)
        if files.done.exists() or submission.is_revoked:
            return 0
        if files.root.name in self.dumb:
            return None
        submission.read_run()
        number = newest_generation(files) + 1
        claim = Claim(number, token, job.id, job.restart_count, job.node, 1, self.now)
        files.generation(number).write_text(claim.to_json() if files.is_older else claim.to_line())
        found = self._checkpoint(files) or self._parents(files)
        work = self.works[key] = Work(files, token, number, found.step if found else 0)
        if files.root.name in self.mute:
            work.gone = True
            return None
        work.tell(
            self.now,
            "start",
            generation=number,
            token=token,
            resumed_from=str(found) if found else None,
            versions=dict(self.versions),
            processes=int(job.request.environment.get("LVJOBS_PROCESSES", 1)),
            checkpoint_every=json.loads(files.config.read_text())["config"]["checkpoint_every"],
            job_start=job.start,
        )
        return None

    @staticmethod
    def _checkpoint(files):
        names = [parse_checkpoint_name(path.name) for path in files.steps.glob("*")]
        return max((name for name in names if name is not None), default=None)

    @staticmethod
    def _parents(files):
        parent = json.loads(files.config.read_text())["config"].get("parent")
        return CheckpointName(0, parent["step"]) if parent else None

    def _go_on(self, key, job, work, *, is_orphan):
        name, config = work.files.root.name, json.loads(work.files.config.read_text())["config"]
        if not is_orphan or work.taken % LOOK_EVERY == 0:
            if work.newest() > work.generation:
                return self._leave(work, "superseded")
            if Submission(work.files, work.token).is_revoked:
                return self._leave(work, "stopped")
        if 0 < Submission(work.files, work.token).stop_at <= work.step < config["steps"]:
            self._save(work)
            return self._leave(work, "rung")
        if work.step < config["steps"] and (self._is_exhausted(work) or self._is_out_of_time(job, work)):
            self._save(work)
            return self._leave(work, "exhausted")
        if job.signals and name not in self.deaf:
            return self._obey(job, work, shared=len(key) > len(("id", "token", "restart")))
        if name in self.dumb:
            return None
        if said := self.broken.get(job.node):
            error = RecordedError("AcceleratorError", said, "...", breakdown_of("AcceleratorError", said), job.node)
            work.tell(self.now, "error", step=work.step, **error.to_fields())
            work.gone = True
            return 1
        self._step(key, work, name, config, is_orphan=is_orphan)
        if name in self.failing and work.step >= self.failing[name]:
            said = self.said.get(name, "no such thing")
            traceback = f'Traceback:\n  File "own.py", line 9, in train\nValueError: {said}\n'
            work.tell(self.now, "error", type="ValueError", message=said, traceback=traceback, step=work.step)
            work.gone = True
            return 1
        if work.step == self.ending.get(name):
            self._save(work)
            return self._finish(work)
        return self._finish(work) if work.step >= config["steps"] else None

    def _is_exhausted(self, work):
        """All steps of all generations, against what may be executed."""
        allowed = Submission(work.files, work.token).allowance
        executed = sum(path.read_text().count('"kind":"step"') for path in work.files.journals.glob("*.jsonl"))
        return allowed is not None and executed >= allowed

    def _is_out_of_time(self, job, work):
        """By the meter of the real worker, a step before the end."""
        if self.ignores_time:
            return False
        submission = Submission(work.files, work.token)
        end = AllowanceMeter(work.files, work.generation, submission, job.start).gpu_seconds_end
        return end is not None and self.now + self.cluster.manners.step_seconds > end

    def _step(self, key, work, name, config, *, is_orphan):
        work.step += 1
        work.taken += 1
        first = next((loss for beginning, loss in self.losses.items() if name.startswith(beginning)), 1.0)
        timed = {"seconds": self.cluster.manners.step_seconds} if self.is_timed else {}
        work.tell(self.now, "step", step=work.step, **({} if self.silent else {"loss": first / work.step}), **timed)
        self.executed[name] += 1
        self.trained[name].add(key[:2])
        if not is_orphan:
            if self.last.get(name, (0, key))[0] == self.now:
                self.overlaps.append((name, key, self.last[name][1]))
            self.last[name] = self.now, key
        if work.step % config["checkpoint_every"] == 0 or work.step == config["steps"]:
            self._save(work)

    def _save(self, work):
        if work.newest() > work.generation:
            return
        name = CheckpointName(work.generation, work.step)
        directory = work.files.steps / str(name)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).write_text(Manifest(work.generation, work.step, {}).to_json())
        work.tell(self.now, "checkpoint", step=work.step, name=str(name))

    def _obey(self, job, work, *, shared):
        signal = job.signals[-1]
        self._save(work)
        work.tell(self.now, "signal", signal=signal, step=work.step)
        timeout = signal == "SIGUSR2"
        action = "none"
        if self._requeues_itself(job):
            action = "asked" if shared else "requeued"
        if action == "requeued":
            self.cluster.requeue(job.id)
        code = self._leave(work, "timeout" if timeout else "preempted", action)
        return "asked" if action == "asked" else code

    def _leave(self, work, cause, action="none"):
        work.tell(self.now, "leave", cause=cause, step=work.step, action=action)
        work.gone = True
        return 75

    def _finish(self, work):
        work.gone = True
        if work.newest() > work.generation:
            return self._leave(work, "superseded")
        if not work.files.done.exists():
            name = CheckpointName(work.generation, work.step)
            work.files.done.write_text(Done(work.generation, work.step, str(name), self.now).to_json())
        work.tell(self.now, "done", step=work.step)
        return 0

    @property
    def now(self):
        return self.cluster.clock.now
