"""Pure parsers of the output of squeue, sacct and scontrol. They are tested on captured output of real clusters."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import accumulate

from lvjobs.cluster.protocol import DRIVER, ClusterError, Job, token_of
from lvjobs.cluster.sites import parse_minutes
from lvjobs.cluster.states import ENDED_STATES, QueuePosition

# squeue's --Format in columns of fixed width: every release knows it, and a value that is too long is cut, not shifted.
# The name comes last because only the name may hold characters of more than one byte.
_QUEUE_COLUMNS = (
    ("JobArrayID", 40),
    ("State", 24),
    ("Reason", 100),
    ("RestartCnt", 12),
    ("StartTime", 24),
    ("EndTime", 24),
    ("exit_code", 12),
    ("Partition", 64),
    ("NodeList", 100),
    ("QOS", 64),
    ("Account", 64),
    ("TimeUsed", 24),
    ("Name", 256),
)
QUEUE_FORMAT = ",".join(f"{name}:{width}" for name, width in _QUEUE_COLUMNS)
_QUEUE_ENDS = accumulate(width for _, width in _QUEUE_COLUMNS)
_QUEUE_PLACES = {name: slice(end - width, end) for (name, width), end in zip(_QUEUE_COLUMNS, _QUEUE_ENDS, strict=True)}

_HISTORY_COLUMNS = (
    "JobID",
    "State",
    "ExitCode",
    "Start",
    "End",
    "Partition",
    "NodeList",
    "ElapsedRaw",
    "AllocTRES",
    "JobName",
)
HISTORY_FORMAT = ",".join(_HISTORY_COLUMNS)
"""The format for sacct, delimited by `|`; the name comes last because it may contain one."""

_GPUS = "gres/gpu"

_SIGNALLED = 128  # the exit code of a shell and of srun for "killed by signal n" is 128 + n
_UNIX_SIGNALS = 64

_COUNTS = re.compile(r"(?:\A|,)([^,=]+)=(\d+)(?=,|\Z)")
_INDEXES = re.compile(r"(?:\A|,)(\d+)(?:-(\d*)(?::(\d*))?)?(?=,|\Z)")  # a list that is too long is cut anywhere
_JOB_ID = re.compile(r"(?P<job>\d+)(?:_(?:(?P<task>\d+)|\[(?P<tasks>[^\]]*)\]?))?(?P<step>\.\S+)?\Z")


def parse_time(text: str) -> float | None:
    """Return seconds since the epoch, from epoch seconds or Slurm's local ISO time; None for N/A, Unknown, None."""
    text = text.strip()
    if text.isdecimal():
        return float(text) or None
    with suppress(ValueError):
        return datetime.fromisoformat(text).timestamp()
    return None


def parse_estimate(text: str) -> float:
    """Return when a job would start, in seconds since the epoch, from the output of `sbatch --test-only`.

    Raises:
        ClusterError: the output has no estimate.
    """
    match = re.search(r"to start at (\S+)", text)
    start = parse_time(match[1]) if match else None
    if start is None:
        raise ClusterError(f"Slurm gives no estimate ({text.strip() or 'it printed nothing'})")
    return start


PLACE_FORMAT = "%i|%Q|%P"
"""The format for squeue, for waiting jobs: an array's members on one line."""


def parse_place(text: str, job_id: str) -> QueuePosition | None:
    """Return a job's position among the jobs that squeue lists as waiting in its partition; None if not listed."""
    rows = [line.strip().split("|") for line in text.splitlines() if line.count("|") == PLACE_FORMAT.count("|")]
    jobs = [(found, priority, partition) for each, priority, partition in rows if (found := _JOB_ID.match(each))]
    own = job_id.partition("_")[0]
    mine = next(((priority, partition) for found, priority, partition in jobs if found["job"] == own), None)
    if mine is None:
        return None
    waiting = [int(priority) for _, priority, partition in jobs if partition == mine[1] and priority.isdecimal()]
    priority = int(mine[0]) if mine[0].isdecimal() else 0
    ahead = sum(other > priority for other in waiting)
    return QueuePosition(mine[1], priority or None, ahead, len(waiting))


def parse_exit(text: str) -> tuple[int | None, int | None]:
    """Return (exit code, signal) of `3:0`, `0:9` or `137:0`; a job killed by a signal has exit code 0."""
    code_text, _, signal_text = text.strip().partition(":")
    if not code_text.isdecimal():
        return None, None
    code, signal = int(code_text), int(signal_text) if signal_text.isdecimal() else 0
    if not signal and _SIGNALLED < code <= _SIGNALLED + _UNIX_SIGNALS:
        return 0, code - _SIGNALLED
    return code, signal or None


def parse_gpus(text: str) -> int | None:
    """Return the number of GPUs in AllocTRES; None where it is empty.

    An example is `billing=2,cpu=2,gres/gpu:ampere=2,gres/gpu=2,mem=200M`. A site that tracks `gres/gpu` and its types
    counts each GPU twice. A site that tracks only types has no total. (Both observed with Slurm 24.11.) A site that
    tracks neither shows no GPUs, and the result is 0.
    """
    counts = {name: int(count) for name, count in _COUNTS.findall(text.strip())}
    if not counts:
        return None
    typed = (count for name, count in counts.items() if name.startswith(f"{_GPUS}:"))
    return counts[_GPUS] if _GPUS in counts else sum(typed)


def _word(state: str) -> str:
    """Return `CANCELLED` for `CANCELLED by 1000` and for `CANCELLED+`."""
    words = state.split()
    return words[0].rstrip("+") if words else "UNKNOWN"


def _tasks(text: str) -> Iterator[int]:
    """Yield the indexes in `0-3,7%2` and `0-8:2`."""
    for first, last, stride in _INDEXES.findall(text.partition("%")[0]):
        yield from range(int(first), int(last or first) + 1, int(stride or 1))


def _places(job_id: str) -> list[tuple[str, int]]:
    """Return the ids and members that an id names: one, or all that wait under `123_[0-3%2]`; none for a step's id."""
    match = _JOB_ID.match(job_id)
    if match is None or match["step"]:
        return []
    if match["tasks"] is not None:
        return [(f"{match['job']}_{task}", task) for task in _tasks(match["tasks"])]
    if match["task"] is not None:
        return [(job_id, int(match["task"]))]
    return [(job_id, 0)]


def _ended(job: Job, end: float | None, exit_text: str) -> Job:
    """Return the job with its end, if it has ended: for a running job Slurm shows the expected end."""
    if not job.has_run:
        return job
    code, signal = parse_exit(exit_text)
    return replace(job, end=end, exit_code=code, exit_signal=signal)


def _queue_rows(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        yield {column: line[place].strip() for column, place in _QUEUE_PLACES.items()}


def parse_load(text: str) -> Counter[tuple[str, str]]:
    """Return how many of the user's jobs wait or run, from the text that `parse_queue` also reads: see `Load`."""
    load: Counter[tuple[str, str]] = Counter()
    for values in _queue_rows(text):
        if _word(values["State"]) not in ENDED_STATES:
            # A job that may run in several partitions waits in each of them.
            places = [("partition", name) for name in values["Partition"].split(",")]
            places += [("qos", values["QOS"]), ("account", values["Account"]), ("user", "")]
            if values["Name"].startswith(f"{DRIVER}.") and token_of(values["Name"]):
                places.append((DRIVER, ""))
            load.update(dict.fromkeys(places, len(_places(values["JobArrayID"]))))
    return load


def _suspended(values: Mapping[str, str], now: float) -> float:
    """Return the seconds for which a running job was suspended earlier: squeue's TimeUsed excludes them."""
    start, minutes = parse_time(values["StartTime"]), parse_minutes(values["TimeUsed"])
    if values["State"] != "RUNNING" or start is None or minutes is None:
        return 0.0
    return max(0.0, now - start - 60 * minutes)


def parse_queue(text: str, tokens: Collection[str] | None, now: float = 0.0) -> list[Job]:
    """Return the jobs with these tokens in the output of `squeue -h -r -t all -O QUEUE_FORMAT`.

    `tokens` of None means every token. `now` is the time of the output, in seconds since the epoch.
    """
    jobs = []
    for values in _queue_rows(text):
        token = token_of(values["Name"])
        if token is None or (tokens is not None and token not in tokens):
            continue
        for job_id, member in _places(values["JobArrayID"]):
            job = Job(
                id=job_id,
                token=token,
                member=member,
                state=_word(values["State"]),
                reason="" if values["Reason"] == "None" else values["Reason"],
                start=parse_time(values["StartTime"]),
                restart_count=int(values["RestartCnt"]) if values["RestartCnt"].isdecimal() else None,
                nodes=_some(values["NodeList"]),
                partition=values["Partition"],
                suspended=_suspended(values, now),
            )
            jobs.append(_ended(job, parse_time(values["EndTime"]), values["exit_code"]))
    return jobs


def _some(text: str) -> str:
    return "" if text in ("(null)", "None assigned", "N/A") else text


def parse_history(text: str, tokens: Collection[str]) -> list[Job]:
    """Return the jobs with these tokens in the output of `sacct -nPD -o HISTORY_FORMAT`.

    There is one for each execution, oldest first.
    """
    jobs: list[Job] = []
    newest: dict[str, range] = {}  # the places in `jobs` of the last row with this id
    runs: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        values = dict(zip(_HISTORY_COLUMNS, line.split("|", len(_HISTORY_COLUMNS) - 1), strict=False))
        if len(values) != len(_HISTORY_COLUMNS):
            continue
        job_id, _, step = values["JobID"].partition(".")
        if step:
            for place in newest.get(job_id, ()):
                jobs[place] = _with_step(jobs[place], values, step)
            continue
        newest.pop(job_id, None)
        token = token_of(values["JobName"])
        if token is None or token not in tokens:
            continue
        first = len(jobs)
        for member_id, member in _places(job_id):
            restart_count = runs.get((member_id, token), 0)
            runs[member_id, token] = restart_count + 1
            job = Job(
                id=member_id,
                token=token,
                member=member,
                state=_word(values["State"]),
                start=parse_time(values["Start"]),
                restart_count=restart_count,
                nodes=_some(values["NodeList"]),
                partition=values["Partition"],
                elapsed=float(values["ElapsedRaw"]) if values["ElapsedRaw"].isdecimal() else None,
                gpus=parse_gpus(values["AllocTRES"]),
                flushed=values["State"] == "CANCELLED",  # after scancel by a user the state is `CANCELLED by 1000`
            )
            jobs.append(_ended(job, parse_time(values["End"]), values["ExitCode"]))
        newest[job_id] = range(first, len(jobs))
    return jobs


def _with_step(job: Job, values: Mapping[str, str], step: str) -> Job:
    """Return the job with a step's cause (out of memory, or a signal) in place of a less exact FAILED."""
    if job.state != "FAILED":
        return job
    if _word(values["State"]) == "OUT_OF_MEMORY":
        return replace(job, state="OUT_OF_MEMORY")
    signal = None if step in ("batch", "extern") else parse_exit(values["ExitCode"])[1]
    return replace(job, exit_code=0, exit_signal=signal) if signal else job
