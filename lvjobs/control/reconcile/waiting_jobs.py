"""The update of queued jobs when the list of nodes that the study avoids changes.

A node on which jobs soon fail is soon free again. So it attracts the jobs that wait, such as an array's other members.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from lvjobs.cluster.backends import BACKENDS, backend_of
from lvjobs.cluster.protocol import ClusterError
from lvjobs.cluster.templates import ProfileError
from lvjobs.control.reconcile.views import RunView
from lvjobs.control.session import Session
from lvjobs.control.submission.avoided_nodes import (
    Avoidance,
    Choice,
    choice_for,
    excluding,
    job_key,
    noted,
    read_avoidance,
    write_avoidance,
)
from lvjobs.control.submission.send import request_for, same_job
from lvjobs.ledger.records import RunRecord
from lvjobs.study.words import MemberState


def update_waiting_jobs(session: Session, views: Sequence[RunView], now: float) -> list[str]:
    """Make the queued jobs avoid the nodes of the study's list. Return what was done, one line for each change.

    `now` is in seconds since the epoch. If the cluster refuses a change, its line says so. The next pass tries again.
    """
    with session.ledger.transaction() as transaction:
        avoidance = read_avoidance(transaction)
        if not avoidance.nodes and not avoidance.told:
            return []
        tokens = {member.token for member in transaction.members() if member.state is MemberState.LIVE}
    known = {key: nodes for key, nodes in avoidance.told.items() if key.partition("/")[0] in tokens}
    avoidance = Avoidance(avoidance.in_force(session.study.config.policy, now), known)
    queued = [(view.live.member.token, view.live.job, view.run) for view in views if view.live and view.live.job]
    waiting = {job_key(token, job.id): run for token, job, run in queued if job.is_queued and token in tokens}
    # Runs that could share an array have jobs that can run on the same nodes.
    alike = {same_job(run): run for run in waiting.values()}
    choices = {kind: _choose(session, run, avoidance) for kind, run in alike.items()}
    for kind, choice in choices.items():
        avoidance = noted(avoidance, choice or Choice(), str(alike[kind].resources.get("partition") or ""))
    changes: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for key, run in waiting.items():
        choice = choices[same_job(run)]
        if choice is not None and list(choice.avoided) != list(known.get(key, ())):
            excluded = tuple(excluding(run.resources, choice.avoided))
            changes[backend_of(run.profile).name, tuple(choice.avoided), excluded].append(key)
    did = []
    for (backend, avoided, excluded), keys in changes.items():
        jobs = [key.partition("/")[2] for key in keys]
        try:
            session.cluster(BACKENDS[backend].watcher).avoid(jobs, excluded)
        except ClusterError as error:  # a job began in the meantime, or Slurm did not answer: the next pass tries again
            did.append(f"job {', '.join(jobs)} could not be changed to avoid failed nodes: {error}")
        else:
            known |= dict.fromkeys(keys, avoided)
            did.append(f"job {', '.join(jobs)} avoids {', '.join(avoided) or 'no failed node any more'}")
    session.ledger.call(write_avoidance, replace(avoidance, told={key: nodes for key, nodes in known.items() if nodes}))
    return did


def _choose(session: Session, run: RunRecord, avoidance: Avoidance) -> Choice | None:
    """Return the nodes that the run's job avoids; None, for no change, if the cluster or the profile gives no nodes."""
    try:
        return choice_for(session.cluster_of(run), request_for(session.study, [run], ""), avoidance.nodes)
    except (ClusterError, ProfileError):
        return None
