"""The nodes that a study avoids: those that caused a run's failure, each for `[policy] exclude_hours`.

`place` submits jobs with this list, and `lvjobs.control.reconcile.waiting_jobs` updates queued jobs after each
change. A job may use a node of the list if no other node can run it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from lvjobs.cluster.nodes import expand_nodes
from lvjobs.cluster.protocol import Cluster, ClusterError, JobRequest, Node, SubmitLimited, SubmitRefused
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.summary import AvoidedRow
from lvjobs.study.tables import Policy

_HOUR = 3600.0


@dataclass(frozen=True)
class Avoided:
    """A node that the study avoids, `since` when (seconds since the epoch), and why.

    `used_in`: partitions whose jobs may use it nevertheless.
    """

    node: str
    since: float
    reason: str
    used_in: Sequence[str] = ()


@dataclass(frozen=True)
class Avoidance:
    """The study's list, oldest first, and the nodes of it that each job avoids (by `job_key`)."""

    nodes: Sequence[Avoided] = ()
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def in_force(self, policy: Policy, now: float) -> list[Avoided]:
        """Return the entries that have not expired at `now`, in seconds since the epoch.

        Even if a clock is set back, an entry lasts at most twice `exclude_hours`.
        """
        return [entry for entry in self.nodes if abs(now - entry.since) < policy.exclude_hours * _HOUR]


@dataclass(frozen=True)
class _Told:
    job: str
    nodes: Sequence[str]


def job_key(token: str, job_id: str) -> str:
    """Return the key of a job in `Avoidance.told`. A controller that lost its state repeats job ids, never tokens."""
    return f"{token}/{job_id}"


def read_avoidance(transaction: Transaction) -> Avoidance:
    """Return the study's list from the ledger."""
    told = {each.job: each.nodes for each in transaction.rows("told_jobs", _Told)}
    return Avoidance(transaction.rows("avoided_nodes", Avoided), told)


def write_avoidance(transaction: Transaction, avoidance: Avoidance) -> None:
    """Write the list to the ledger, if it differs from the ledger's."""
    if avoidance != read_avoidance(transaction):
        transaction.set_rows("avoided_nodes", avoidance.nodes)
        transaction.set_rows("told_jobs", [_Told(job, nodes) for job, nodes in avoidance.told.items()])


def avoid_node(transaction: Transaction, node: str, reason: str, now: float) -> None:
    """Put a node on the study's list at `now`, in seconds since the epoch. The time of a node on it begins again."""
    others = [entry for entry in transaction.rows("avoided_nodes", Avoided) if entry.node != node]
    transaction.set_rows("avoided_nodes", [*others, Avoided(node, now, reason)])


@dataclass(frozen=True)
class Choice:
    """The nodes of the study's list that a job avoids, and those that it may use nevertheless."""

    avoided: Sequence[str] = ()
    used: Sequence[str] = ()


def choose(entries: Sequence[Avoided], own: Iterable[str], nodes: Sequence[Node], wanted: int = 1) -> Choice:
    """Choose which of `entries` (oldest first) a job avoids that could run on `nodes`. Pure.

    `own` are the nodes that the user excludes. The job keeps as many nodes as it has (`wanted`), and nodes that are up
    if there are as many: otherwise the nodes of the oldest entries may be used. Names that are not in `nodes` are left
    out, because sbatch refuses unknown names.
    """
    excluded = expand_nodes(list(own))
    allowed = {node.name: node.is_up for node in nodes if node.name not in excluded}
    up = {name for name, is_up in allowed.items() if is_up}
    pool = up if len(up) >= wanted else set(allowed)
    listed = [entry.node for entry in entries if entry.node in allowed]
    lacking = max(0, wanted - len(pool - set(listed)))
    used = [name for name in listed if name in pool][:lacking]
    return Choice(sorted({*listed} - {*used}), used or ())


def choice_for(cluster: Cluster, request: JobRequest, entries: Sequence[Avoided]) -> Choice:
    """Read the nodes that could run the job from the cluster, and choose. An empty list needs no question.

    Raises:
        ClusterError: The cluster did not answer.
    """
    if not entries:
        return Choice()
    wanted = int(request.resources.get("nodes") or 1)
    return choose(entries, request.resources.get("exclude_nodes") or (), cluster.nodes(request), wanted)


def excluding(resources: Mapping[str, Any], avoided: Sequence[str]) -> list[str]:
    """Return all nodes that a job excludes: the user's own list, then `avoided`."""
    own = list(resources.get("exclude_nodes") or ())
    return [*own, *(name for name in avoided if name not in own)]


def noted(avoidance: Avoidance, choice: Choice, partition: str) -> Avoidance:
    """Return the list with the choice for jobs of this partition (empty: the site's default) in `used_in`."""
    place = partition or "default"

    def places(entry: Avoided) -> Sequence[str]:
        others = [name for name in entry.used_in if name != place]
        if entry.node in choice.used:
            return [*others, place]
        return others if entry.node in choice.avoided else entry.used_in

    return replace(avoidance, nodes=[replace(entry, used_in=places(entry)) for entry in avoidance.nodes])


def avoided_rows(transaction: Transaction, policy: Policy, now: float) -> list[AvoidedRow]:
    """Return the rows of the summary for the entries in force at `now`, in seconds since the epoch."""
    return [
        AvoidedRow(
            node=entry.node,
            reason=entry.reason,
            since=entry.since,
            until=entry.since + policy.exclude_hours * _HOUR,
            used_in=list(entry.used_in),
        )
        for entry in read_avoidance(transaction).in_force(policy, now)
    ]


# -- the submission of a job off these nodes ----------------------------------------------------------------------


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
        return f"it may use {names}, where a run failed, because no other node can run it"


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
    choices = []
    for request in requests:
        try:
            choices.append(choice_for(cluster, request, entries))
        except ClusterError:  # noqa: PERF203 - a few, each a question to the cluster
            choices.append(Choice())  # a later pass updates the job, which usually still waits then
    if any(choice.avoided for choice in choices):
        careful = [_off(request, choice) for request, choice in zip(requests, choices, strict=True)]
        # The remaining nodes may lack a feature of the request that only sbatch checks (a constraint).
        with suppress(SubmitRefused):
            job_id, taken = _submit_first(cluster, careful)
            return Placed(job_id, taken, choices[taken])
    job_id, taken = _submit_first(cluster, requests)
    return Placed(job_id, taken, Choice((), sorted({*choices[taken].avoided, *choices[taken].used})))


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
