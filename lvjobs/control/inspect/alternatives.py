"""Alternatives that would start sooner: Slurm estimates when jobs with other requests would start. On demand only.

Each estimate is an `sbatch --test-only`, which uses up a job id and loads the scheduler, so there are few of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.protocol import Cluster, ClusterError, ClusterSilent
from lvjobs.control.backends import variables_of
from lvjobs.control.session import Session
from lvjobs.control.submission.send import request_for
from lvjobs.control.submission.slots import choices
from lvjobs.control.submission.time_limits import measured_limit
from lvjobs.control.summary import find_row
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord

MOST_QUESTIONS = 6


@dataclass(frozen=True)
class Alternative:
    """Another request for a job: as text, as changed variables of the profile, and the command that makes it so."""

    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    typed: str = ""


@dataclass(frozen=True)
class StartEstimate:
    """The expected start of such a job (seconds since the epoch), or the reason why it would not start (`said`)."""

    alternative: Alternative
    start: float | None
    said: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "what": self.alternative.words,
            "start": self.start,
            "said": self.said,
            "type": self.alternative.typed,
        }


def alternatives(
    asked: Mapping[str, Any],
    job_id: str,
    partitions: Mapping[str, float | None],
    measured: int | None,
    batch: int | None,
) -> list[Alternative]:
    """Return requests that differ from a waiting job's (`asked`: its profile variables), at most `MOST_QUESTIONS`.

    `partitions` are the site's, with their longest time limits in minutes (None: no limit). `measured` is the time
    limit in minutes that the run is known to need. `batch` is the batch size, which the number of GPUs has to divide.
    Both are None if they are not known.
    """
    found = [Alternative("a job like it, sent now")]
    minutes = int(asked.get("time_limit_minutes") or 0)
    shorter = {measured} if measured else {minutes // 2, minutes // 4}
    for less in sorted((one for one in shorter if 0 < one < minutes), reverse=True):
        source = "as measured: " if measured else ""
        typed = remedies.SCONTROL_UPDATE(job=job_id, setting=f"timelimit={less}")
        found.append(Alternative(f"{source}{less} min instead of {minutes}", {"time_limit_minutes": less}, typed))
    mine = set(str(asked.get("partition") or "").split(","))
    for name, most in partitions.items():
        if name not in mine and (most is None or minutes <= most):
            typed = remedies.SCONTROL_UPDATE(job=job_id, setting=f"partition={name}")
            found.append(Alternative(f"partition {name}", {"partition": name}, typed))
    gpus = int(asked.get("gpus") or 0)
    fewer = gpus // 2
    if fewer and batch is not None and batch % fewer == 0:
        typed = f"gpus = {fewer} under [resources] in study.toml, for later runs"
        found.insert(
            min(len(found), MOST_QUESTIONS - 1), Alternative(f"{fewer} of {gpus} GPUs", {"gpus": fewer}, typed)
        )
    return found[:MOST_QUESTIONS]


def find_alternatives(session: Session, row: Mapping[str, Any]) -> list[StartEstimate]:
    """Return requests that would start the run sooner, soonest first. `row`: the run's in the summary; its job waits.

    Raises:
        UsageError: the scheduler cannot be asked, or does not answer.
    """
    with session.ledger.transaction() as transaction:
        run = transaction.find_run(id=row["id"])
    assert run is not None
    cluster = session.cluster_of(run)
    try:
        partitions = cluster.probe().partitions
        limit = measured_limit(session.study.layout, session.ledger, run)
        asked = variables_of(session.study.layout, run)
        wanted = alternatives(asked, row["job_id"], partitions, limit, run.config["params"].get("batch_size"))
        answers = [_ask(session, cluster, run, alternative) for alternative in wanted]
    except ClusterError as error:
        status = remedies.STATUS(*session.study.where)
        raise UsageError(
            f"the start of a job cannot be estimated here ({error}); see the runs that wait: {status}"
        ) from None
    now = row.get("start_estimate") or answers[0].start or float("inf")  # the first is a job like it
    sooner = [answer for answer in answers[1:] if answer.start is not None and answer.start < now]
    return sorted(sooner, key=lambda answer: answer.start or 0.0)


def _ask(session: Session, cluster: Cluster, run: RunRecord, alternative: Alternative) -> StartEstimate:
    choice = {**choices(run.resources)[0], **alternative.changes}
    try:
        return StartEstimate(alternative, cluster.estimate_start(request_for(session.study, [run], "0" * 12, choice)))
    except ClusterSilent:  # it will not answer the next question either
        raise
    except ClusterError as error:
        return StartEstimate(alternative, None, str(error))


def waiting_rows(
    summary: Mapping[str, Any], typed: str | None, where: Sequence[str] = ()
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of the runs whose jobs wait in the queue, or the one that is `typed`.

    `where`: see `StudyContext.where`.

    Raises:
        UsageError: the run that is typed does not exist, or its job does not wait.
    """
    if not typed:
        return [row for row in summary["runs"] if row["queue_reason"] is not None]
    row = find_row(summary, typed, where)
    if row["queue_reason"] is None:
        raise UsageError(f"{row['name']} has no job in the queue; type: {remedies.STATUS(*where)}")
    return [row]
