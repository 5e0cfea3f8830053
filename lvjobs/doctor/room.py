"""The checks whether such jobs fit: size, time limit, number, and sbatch's own answer."""

import re
import time
from collections.abc import Iterator, Sequence

from lvjobs import remedies
from lvjobs.cluster.nodes import NodeGroup
from lvjobs.control.submission.slots import room_for
from lvjobs.control.submission.time_limits import is_automatic
from lvjobs.doctor.interface import Asked, Diagnosis, Facts, error, fine, note
from lvjobs.errors import UsageError
from lvjobs.study.tables import parse_time_limit

TEST = "test"
"""The key of the reply whether sbatch would accept such a job."""

_GPUS = re.compile(r"gres/gpu(?::[^=,]+)?=(\d+)")


def check_size(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether a node of the partition has what a job requests."""
    names = facts.partitions_for(asked.variables)
    groups = [each for each in facts.nodes if each.partition in names]
    if not groups:
        return
    gpus, cpus = (int(asked.variables.get(key) or 0) for key in ("gpus", "cpus"))
    memory = int(asked.variables.get("memory_mb") or 0)
    parts = [f"{gpus} GPU{'' if gpus == 1 else 's'}", f"{cpus} core{'' if cpus == 1 else 's'}"]
    what = ", ".join(parts + ([f"{memory} MiB"] if memory else []))
    fitting = [each for each in groups if each.gpus >= gpus and each.cpus >= cpus and each.memory_mb >= memory]
    place = ",".join(names)
    if not fitting:
        yield error(
            "size",
            f"a job requests {what}, and no node of {place} has that: {_most(groups)}",
            "it never starts, or is refused",
            "request less under [resources] (gpus, cpus, memory_mb), or name another partition",
        )
    elif all(each.is_out for each in fitting):
        states = ", ".join(sorted({each.state for each in fitting}))
        yield note(
            "size", f"each node of {place} with {what} is out of service ({states})", "jobs wait until one is back"
        )
    else:
        count = sum(each.nodes for each in fitting if not each.is_out)
        yield fine("size", f"a job requests {what}: {count} node{'s have' if count > 1 else ' has'} that")
    most = _most_gpus(facts, asked)
    if most is not None and gpus > most:
        yield error(
            "size",
            f"gpus = {gpus}, and the QOS lets a user have {most}",
            "the job never starts",
            f"gpus = {most} under [resources] in study.toml, or another QOS",
        )


def _most(groups: Sequence[NodeGroup]) -> str:
    kinds = sorted({(each.gpus, each.cpus, each.memory_mb) for each in groups}, reverse=True)[:3]
    return "; ".join(f"{gpus} GPUs, {cpus} cores, {memory} MiB" for gpus, cpus, memory in kinds)


def _most_gpus(facts: Facts, asked: Asked) -> int | None:
    """Return the GPUs that the QOS of a job (if there is exactly one) lets a user have at once."""
    names = facts.qos_for(asked.variables)
    found = _GPUS.search(facts.qos.get(names[0], {}).get("MaxTRESPU", "")) if len(names) == 1 else None
    return int(found[1]) if found else None


def check_time(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the site allows the time limit."""
    if not facts.partitions:
        return
    wanted = int(asked.variables.get("time_limit_minutes") or 0)
    own = [each.minutes for each in facts.charged(asked.variables) if each.minutes]
    try:
        partition = facts.find_excess(asked.variables)
    except UsageError:
        return  # there is no such partition, which another check reports
    most = facts.limits.minutes
    names = facts.qos_for(asked.variables)
    exempt = bool(names) and facts.exempts(names[0])
    if is_automatic(asked.resources.variables()):
        longest = "as the profile sets it" if most is None else f"at most {_hours(min(most, wanted))}"
        yield fine("time limit", f"from measured step times (auto), {longest}")
    elif partition is not None and not exempt:
        longest = facts.partitions[partition].get("MaxTime", "")
        yield _too_long(wanted, f"partition {partition} allows {longest}", parse_time_limit(longest))
    elif most is not None and wanted > most and not exempt:
        yield _too_long(wanted, f"the QOS allows {_hours(most)}", most)
    elif own and wanted > own[0]:
        yield _too_long(wanted, f"the account allows {_hours(int(own[0]))}", int(own[0]))
    else:
        longest = "no limit is set here" if most is None else f"the site allows {_hours(most)}"
        yield fine(
            "time limit",
            f"a job requests {_hours(wanted)}; {longest}",
            "a longer run continues in another job, from its checkpoint",
        )


def _too_long(wanted: int, allowed: str, most: int) -> Diagnosis:
    return error(
        "time limit",
        f"a job requests {_hours(wanted)}, and {allowed}",
        "it never starts, or is refused; a run may use many jobs",
        f'time_limit = "{_hours(most)}" under [resources] in study.toml, or --time-limit {_hours(most)}',
    )


def _hours(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02d}:00"


def check_queue(facts: Facts) -> Iterator[Diagnosis]:
    """Yield how many jobs are in the queue, and how many more there may be."""
    if problem := facts.replies["queue"].problem:
        yield note("queue", f"squeue does not answer: {problem}", "running jobs continue; their state is unknown now")
        return
    there = facts.load.get(("user", ""), 0)
    have = f"you have {there} job{'' if there == 1 else 's'} in the queue"
    room = room_for(facts.limits, facts.load)
    if room.jobs is None:
        yield fine(
            "queue",
            f"{have}; the site reports no limit",
            "if sbatch reports a limit, runs wait for free slots in the queue",
        )
        return
    said = "; ".join(cap.said for cap in facts.limits.caps)
    means = "a larger stage is submitted in parts automatically"
    if room.jobs:
        yield fine("queue", f"{have}, and there is room for {room.jobs} more ({said})", means)
    else:
        yield note(
            "queue",
            f"{have}, and there is no room for more ({said})",
            "new runs wait and are submitted automatically",
            "wait for jobs to end; or let runs share jobs: pack under [resources] in study.toml",
        )


def check_submission(facts: Facts, asked: Asked, *, is_refused: bool = False) -> Iterator[Diagnosis]:
    """Yield sbatch's own answer to such a job, which includes a site's extra rules.

    `is_refused`: a refusal is explained already.
    """
    reply = facts.replies.said.get(TEST)
    if reply is None or (reply.problem and is_refused):
        return
    if reply.is_silent:
        yield note("sbatch", f"it did not say whether it accepts such a job: {reply.problem}")
    elif reply.problem:
        dry_run = remedies.DRY_RUN_TASK if asked.training is None else remedies.DRY_RUN
        yield error(
            "sbatch",
            f"it refuses such a job: {reply.problem}",
            "no run of this study can be submitted like this",
            f"change [resources] in study.toml; to see the script, type: {dry_run(*asked.study.where)}"
            if asked.is_study
            else "correct --partition, --account, --qos or --time-limit",
        )
    else:
        start = time.strftime("%a %d %b %H:%M", time.localtime(float(reply.text)))
        yield fine("sbatch", f"it accepts such a job and expects to start it {start} (nothing was submitted)")
