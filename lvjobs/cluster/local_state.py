"""The states of the local backend's jobs, read from the files that their wrappers write."""

from dataclasses import replace

from lvjobs.cluster.local_files import ABANDONED, JobFiles, MemberFiles, Spec
from lvjobs.cluster.protocol import Job
from lvjobs.files import create_exclusive

_LAUNCH_SECONDS = 90.0
"""The age after which a job that nobody has started never starts: its submitter ended in between."""


def look(job: JobFiles, spec: Spec, index: int) -> Job:
    """Return the state of a member."""
    has_begun = job.member(index).run.root.exists()
    return state_of(job, spec, index) if has_begun else _unstarted(job, spec, index)


def _with_end(job: Job, end: float) -> Job:
    """Return the job with its end and with how long it held its slot: 0 s where its worker never started."""
    elapsed = 0.0 if job.start is None else max(0.0, end - job.start)  # a file's time may come from another clock
    return replace(job, end=end, elapsed=elapsed)


def _unstarted(job: JobFiles, spec: Spec, index: int) -> Job:
    """Return the state of a member without a wrapper: it starts soon, or its submitter ended before it could do so."""
    blank = Job(job.member_id(index, spec), spec.token, index, "PENDING", "Launching", restart_count=0, gpus=0)
    if job.age(spec) < _LAUNCH_SECONDS:
        return blank
    # The first claim decides, so that a submitter that was only slow does not start a job that was given up here.
    create_exclusive(job.launch, ABANDONED)
    cancelled = job.member(index).cancelled.exists()
    state = "CANCELLED" if cancelled else "NODE_FAIL"
    return _with_end(replace(blank, state=state, reason="NeverStarted", restart_count=0), spec.submitted)


def state_of(job: JobFiles, spec: Spec, index: int) -> Job:
    """Return the state of a member that has a wrapper."""
    member = job.member(index)
    run = member.run
    blank = Job(
        id=job.member_id(index, spec),
        token=spec.token,
        member=index,
        state="PENDING",
        restart_count=0,
        partition="local",
        gpus=0,  # none are allocated: every job sees all GPUs of the machine
    )
    ended = run.record("ended")
    if ended is None:
        looked_after = run.is_looked_after()
        ended = run.record("ended")  # the record may have been written just before the wrapper ended
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
    # If only the worker was killed, its wrapper records that. Here the wrapper ended too: most likely the machine
    # failed.
    gone = replace(
        running,
        state="CANCELLED" if cancelled else "NODE_FAIL",
        reason="" if wrapper is not None else "NeverStarted",
    )
    return _with_end(gone, run.last_sign())
