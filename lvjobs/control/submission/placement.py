"""The submission of the first request that the cluster accepts, off the nodes that the study avoids."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from lvjobs.cluster.protocol import Cluster, ClusterError, JobRequest, SubmitLimited, SubmitRefused
from lvjobs.control.submission.avoided_nodes import (
    Avoided,
    Choice,
    choice_for,
    excluding,
    job_key,
    noted,
    read_avoidance,
    write_avoidance,
)
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.ledger.transaction import Transaction


@dataclass(frozen=True)
class Placed:
    """A submitted job, the index of the accepted request, and the study's nodes that the job avoids or may use."""

    job_id: str
    taken: int
    choice: Choice

    @property
    def words(self) -> str:
        """Return a warning about nodes that the job may use although the study avoids them; empty for none."""
        if not self.choice.used:
            return ""
        names = ", ".join(self.choice.used)
        return f"it may use {names}, where a run failed: without {names} no node is left that could run it"


def place(cluster: Cluster, requests: Sequence[JobRequest], entries: Sequence[Avoided]) -> Placed:
    """Submit the first of `requests` that the cluster accepts.

    Args:
        cluster: The cluster.
        requests: The same job with different choices of QOS and partition, under one token.
        entries: The nodes that the study avoids, oldest first.

    Raises:
        SubmitLimited: No request was accepted, but one may be later.
        SubmitRefused: No request was accepted, and none will be.
        SubmitDeferred, SubmitUnclear: Raised at once; no other request is tried.
    """
    choices = [_choice(cluster, request, entries) for request in requests]
    if any(choice.avoided for choice in choices):
        careful = [_off(request, choice) for request, choice in zip(requests, choices, strict=True)]
        # The remaining nodes may lack a feature of the request that only sbatch checks (a constraint).
        with suppress(SubmitRefused):
            job_id, taken = _submit_first(cluster, careful)
            return Placed(job_id, taken, choices[taken])
    job_id, taken = _submit_first(cluster, requests)
    return Placed(job_id, taken, Choice((), sorted({*choices[taken].avoided, *choices[taken].used})))


def _choice(cluster: Cluster, request: JobRequest, entries: Sequence[Avoided]) -> Choice:
    try:
        return choice_for(cluster, request, entries)
    except ClusterError:
        return Choice()  # a later pass updates the job, which usually still waits then


def _off(request: JobRequest, choice: Choice) -> JobRequest:
    excluded = excluding(request.resources, choice.avoided)
    return replace(
        request, resources={**request.resources, "exclude_nodes": excluded} if excluded else request.resources
    )


def _submit_first(cluster: Cluster, requests: Sequence[JobRequest]) -> tuple[str, int]:
    """Submit the first request that sbatch accepts. All have one token, because a refused request leaves no job.

    A request is refused too if the profile can make no script of it.
    """
    refusals: list[LvjobsError] = []
    for index, request in enumerate(requests):
        try:
            return cluster.submit(request), index
        except (SubmitRefused, SubmitLimited, UsageError) as error:  # noqa: PERF203 - a few, each a process of its own
            refusals.append(error)
    said = "; ".join(dict.fromkeys(map(str, refusals)))
    is_limited = any(isinstance(error, SubmitLimited) for error in refusals)
    raise (SubmitLimited if is_limited else SubmitRefused)(said)


def note_placed(transaction: Transaction, placed: Placed, request: JobRequest, jobs: Sequence[str]) -> None:
    """Record the nodes that the `jobs` of a submission avoid."""
    avoidance = noted(read_avoidance(transaction), placed.choice, str(request.resources.get("partition") or ""))
    if placed.choice.avoided:
        told = {job_key(request.token, job): list(placed.choice.avoided) for job in jobs}
        avoidance = replace(avoidance, told={**avoidance.told, **told})
    write_avoidance(transaction, avoidance)
