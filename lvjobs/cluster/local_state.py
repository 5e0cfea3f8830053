"""How the local backend's jobs stand, read off what their wrappers left on disk."""

from dataclasses import replace

from lvjobs.cluster.local_files import ABANDONED, JobFiles, MemberFiles, Spec
from lvjobs.cluster.protocol import Job
from lvjobs.files import create_exclusive

_LAUNCH_SECONDS = 90.0
"""A job that nobody has started by then never will be: its submitter died in between."""


def look(job: JobFiles, spec: Spec, index: int) -> Job:
    """Return how a member stands."""
    has_begun = job.member(index).run.root.exists()
    return state_of(job, spec, index) if has_begun else _unstarted(job, spec, index)


def _with_end(job: Job, end: float) -> Job:
    """The job with its end, and with how long it had its slot: not at all where its worker never began."""
    elapsed = 0.0 if job.start is None else max(0.0, end - job.start)  # a file's time may come from another clock
    return replace(job, end=end, elapsed=elapsed)


def _unstarted(job: JobFiles, spec: Spec, index: int) -> Job:
    """A member that no wrapper has taken up: it soon will be, or its submitter died before it could start it."""
    blank = Job(job.member_id(index, spec), spec.token, index, "PENDING", "Launching", restart_count=0, gpus=0)
    if job.age(spec) < _LAUNCH_SECONDS:
        return blank
    # Whoever claims first decides, so that a submitter that was only asleep does not start it after we gave it up.
    create_exclusive(job.launch, ABANDONED)
    cancelled = job.member(index).cancelled.exists()
    state = "CANCELLED" if cancelled else "NODE_FAIL"
    return _with_end(replace(blank, state=state, reason="NeverStarted", restart_count=0), spec.submitted)


def state_of(job: JobFiles, spec: Spec, index: int) -> Job:
    """Return how a member stands that a wrapper has taken up."""
    member = job.member(index)
    run = member.run
    blank = Job(
        id=job.member_id(index, spec),
        token=spec.token,
        member=index,
        state="PENDING",
        restart_count=0,
        partition="local",
        gpus=0,  # none are handed out: every job sees all that the machine has
    )
    ended = run.record("ended")
    if ended is None:
        looked_after = run.is_looked_after()
        ended = run.record("ended")  # it may have been written before its wrapper went
        if ended is None:
            return _unended(blank, member, looked_after=looked_after)
    seen = replace(
        blank,
        state=ended["state"],
        start=ended["start"],
        exit_code=ended["code"],
        exit_signal=ended["signal"],
        nodes=ended["host"],
    )
    return _with_end(seen, ended["time"])


def _unended(blank: Job, member: MemberFiles, *, looked_after: bool) -> Job:
    run = member.run
    wrapper, worker = run.process("wrapper"), run.process("worker")
    cancelled = member.cancelled.exists()
    if wrapper is None and run.is_new(_LAUNCH_SECONDS):
        return replace(blank, reason="Launching")
    if looked_after and worker is None:
        return replace(blank, reason="Resources", nodes="")
    began = run.record("worker") or {}
    running = replace(blank, state="COMPLETING" if cancelled else "RUNNING", start=began.get("start"))
    running = replace(running, nodes=began.get("host", ""))
    if looked_after or (worker is not None and worker.is_alive):
        return running
    # Whoever kills only the worker leaves a wrapper that says so: this was the whole machine, or as good as.
    gone = replace(
        running,
        state="CANCELLED" if cancelled else "NODE_FAIL",
        reason="" if wrapper is not None else "NeverStarted",
    )
    return _with_end(gone, run.last_sign())
