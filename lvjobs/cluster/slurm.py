"""The Slurm backend: submission through submitit, state by one squeue and one sacct, parsed as text."""

import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from lvjobs.cluster import sites
from lvjobs.cluster.commands import absence, answered, run, words_of
from lvjobs.cluster.enquiry import question
from lvjobs.cluster.nodes import NODES_FORMAT, parse_nodes
from lvjobs.cluster.parse import (
    HISTORY_FORMAT,
    PLACE_FORMAT,
    QUEUE_FORMAT,
    parse_estimate,
    parse_history,
    parse_load,
    parse_place,
    parse_queue,
)
from lvjobs.cluster.profiles import Profile, render
from lvjobs.cluster.protocol import (
    Cluster,
    ClusterError,
    ClusterSilent,
    Job,
    JobRequest,
    Limits,
    Load,
    Node,
    Site,
    Snapshot,
)
from lvjobs.cluster.sent import filed_job, overlooked
from lvjobs.cluster.sites import SlurmSite
from lvjobs.cluster.states import SOON_SECONDS, QueuePosition
from lvjobs.errors import UsageError

_MOST_IDS = 500
"""Job ids on one command line; later passes ask for the rest."""

_TOO_WIDE = "too wide of a date range"
_SHORTEST_SECONDS = 60.0
"""Seconds that every site allows as a range of time."""

_NO_ACCOUNTING = ("accounting storage is disabled", "accounting_storage/none")
_GONE = ("invalid job id", "already completing or completed", "job has already finished")


class SlurmCluster(Cluster):
    """A Slurm cluster, used through `profile`. `submissions_directory` keeps the scripts, in a folder per token.

    A command may take `timeout` seconds, and sbatch `submit_timeout`. `lvjobs.cluster.protocol.Cluster` documents the
    methods.
    """

    backend = "slurm"

    def __init__(
        self,
        profile: Profile,
        submissions_directory: Path,
        *,
        timeout: float = 10.0,
        submit_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.profile = profile
        self._submissions = submissions_directory
        self._timeout, self._submit_timeout = timeout, submit_timeout
        self._clock = clock

    @property
    def absent(self) -> str:
        return absence()

    # -- submission ---------------------------------------------------------------------------------------------

    def script(self, request: JobRequest) -> str:
        return render(self.profile, request)

    def submit(self, request: JobRequest) -> str:
        from lvjobs.cluster.sbatch import submit_script

        folder = self._submissions / request.token
        if any(pattern in str(folder) for pattern in ("%j", "%t", "%A", "%a")):
            raise UsageError(f"{folder}: submitit would read the % in it as a pattern; move the study elsewhere")
        return submit_script(self.script(request), folder, self._submit_timeout)

    def check(self, request: JobRequest) -> None:
        self.script(request)
        site, asked = self._site("partitions"), self._asked(request)
        partition = site.find_excess(asked)
        if partition is not None and not self._may_exceed(str(asked.get("qos") or "")):
            most = site.partitions[partition].get("MaxTime", "")
            raise sites.refuse_excess(asked.get("time_limit_minutes"), partition, most)

    def _asked(self, request: JobRequest) -> dict[str, Any]:
        """Return the profile's variables as the script will have them."""
        return self.profile.defaults() | {key: value for key, value in request.resources.items() if value is not None}

    def _may_exceed(self, qos: str) -> bool:
        """Return whether this QOS lets a job run longer than its partition allows."""
        if not qos:
            return False
        try:
            return self._site("qos").exempts(qos)
        except ClusterError:
            return True  # sbatch decides

    def limits(self, request: JobRequest) -> Limits:
        site = self._site("config", "partitions")
        if site.enforces(sites.LIMITS):
            mine = sites.parse_associations(self._hear(*question("user")), site.cluster)
            site = replace(site, qos=self._site("qos").qos, associations=mine)
        return site.limits_of(self._asked(request))

    # -- state --------------------------------------------------------------------------------------------------

    def observe(self, tokens: Sequence[str], since: float, companions: Sequence[str] = ()) -> Snapshot:
        wanted = frozenset(tokens)
        now = self._clock()
        problems: dict[str, ClusterError] = {}
        queue: list[Job] | None = None
        load: Load | None = None
        history: list[Job] | None = None
        accounting = True
        try:
            text = self._queue()
            queue, load = parse_queue(text, wanted.union(companions), now), parse_load(text)
        except ClusterError as error:
            problems["squeue"] = error
        try:
            history, accounting = self._history(wanted, since, queue) if wanted else ([], True)
        except ClusterError as error:
            problems["sacct"] = error
        return Snapshot(now, queue, history, _in_words(problems), accounting, load)

    def load(self) -> Load:
        return parse_load(self._queue())

    def _queue(self) -> str:
        return self._hear(*question("queue"))

    def _history(
        self, tokens: Collection[str], since: float, queue: Sequence[Job] | None
    ) -> tuple[list[Job] | None, bool]:
        answer, is_whole = self._ask_since(since)
        if answer.returncode != 0 and any(text in answer.stderr.lower() for text in _NO_ACCOUNTING):
            return None, False
        history = parse_history(answered(answer).stdout, tokens)
        filed = {token: job for token in tokens if (job := filed_job(self._submissions / token)) is not None}
        if is_whole:
            ids = [] if queue is None else overlooked(filed, [*queue, *history])[:_MOST_IDS]
        else:  # executions are numbered by a job's rows, and its first rows may be older than this range
            ids = [job.id for job in filed.values()]
            history = [job for job in history if job.token not in filed]
        seen = {(job.id, job.token) for job in history}
        for first in range(0, len(ids), _MOST_IDS):
            which = ",".join(ids[first : first + _MOST_IDS])
            again = parse_history(answered(self._ask_accounting("--jobs", which)).stdout, tokens)
            history += [job for job in again if (job.id, job.token) not in seen]
        return history, True

    def _ask_since(self, since: float) -> "tuple[CompletedProcess[str], bool]":
        """Ask sacct for the jobs since then; also return whether it answered for the whole range.

        slurmdbd refuses an ordinary user a range beyond the site's MaxQueryTimeRange; half of the range is then tried,
        and half of that. slurmdbd refuses no question by id.
        """
        now, is_whole = self._clock(), True
        while True:
            start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(max(since, 0.0)))
            answer = self._ask_accounting("--starttime", start)
            if answer.returncode == 0 or _TOO_WIDE not in answer.stderr.lower() or now - since <= _SHORTEST_SECONDS:
                return answer, is_whole
            since, is_whole = now - max((now - since) / 2, _SHORTEST_SECONDS), False

    def _ask_accounting(self, *which: str) -> "CompletedProcess[str]":
        # With steps: a step may be OUT_OF_MEMORY where its job is FAILED. With duplicates: earlier executions.
        return run(["sacct", "-n", "-P", "-D", "-u", str(os.getuid()), *which, "-o", HISTORY_FORMAT], self._timeout)

    # -- commands -----------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> None:
        answer = run(["scancel", job_id], self._timeout)
        if answer.returncode != 0 and not any(text in answer.stderr.lower() for text in _GONE):
            answered(answer)

    def release(self, job_id: str) -> None:
        self._tell("release", job_id)

    def lift_hold(self, job_id: str) -> None:
        """Let a requeued job that waits for its begin time start in a few seconds; any other job is left alone.

        This asks squeue again and takes no snapshot: sent while the job is COMPLETING, the update has no effect and
        spoils the accounting row.
        """
        text = self._hear("squeue", "-h", "-r", "-t", "all", "-j", job_id, "-O", QUEUE_FORMAT)
        if any(job.id == job_id and job.is_held_back(self._clock()) for job in parse_queue(text, None)):
            self._tell("update", f"jobid={job_id}", f"starttime=now+{SOON_SECONDS}")

    def estimate_start(self, request: JobRequest) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as script:
            script.write(self.script(request))
            script.flush()
            answer = answered(run(["sbatch", "--test-only", script.name], self._timeout))
        return parse_estimate(answer.stderr + answer.stdout)

    def place(self, job_id: str) -> QueuePosition | None:
        return parse_place(self._hear("squeue", "-h", "-a", "-t", "PENDING", "-o", PLACE_FORMAT), job_id)

    def extend(self, job_id: str, minutes: int) -> None:
        self._tell("update", f"jobid={job_id}", f"timelimit={minutes}")

    def nodes(self, request: JobRequest) -> Sequence[Node]:
        return parse_nodes(self._hear("sinfo", "-h", "-a", "-N", "-o", NODES_FORMAT), self._asked(request))

    def avoid(self, job_ids: Sequence[str], nodes: Sequence[str]) -> None:
        for start in range(0, len(job_ids), _MOST_IDS):
            ids = ",".join(job_ids[start : start + _MOST_IDS])
            self._tell("update", f"jobid={ids}", f"excnodelist={','.join(nodes)}")

    def _tell(self, *words: str) -> None:
        answer = answered(run(["scontrol", *words], self._timeout))
        # scontrol reports an error about an array's task on stderr, but exits with 0
        if "invalid job id" in answer.stderr.lower() or "error" in answer.stderr.lower():
            raise ClusterError(words_of(answer))

    # -- the site -----------------------------------------------------------------------------------------------

    def probe(self) -> Site:
        site = self._site("config", "partitions")
        with suppress(ClusterError):
            site = replace(site, qos=self._site("qos").qos if site.has_accounting else {})
        return site.promises

    def _site(self, *questions: str) -> SlurmSite:
        """Return the answers to these questions; the other parts of the site are empty."""
        return SlurmSite(**{name: sites.PARSERS[name](self._hear(*question(name))) for name in questions})

    def _hear(self, *words: str) -> str:
        return answered(run(words, self._timeout)).stdout


def _in_words(problems: Mapping[str, ClusterError]) -> str:
    """Return which commands failed, and why, in one line. A second command without an answer adds nothing."""
    words = {name: str(error) for name, error in problems.items()}
    if len(words) > 1 and (len({*words.values()}) == 1 or isinstance(problems["sacct"], ClusterSilent)):
        words.pop("sacct")
    return "; ".join(f"{name}: {said}" for name, said in words.items())
