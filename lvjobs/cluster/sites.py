"""A Slurm site as `scontrol show config`, `show partition` and sacctmgr describe it. Pure."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs.cluster.protocol import Cap, Limits, Site
from lvjobs.errors import UsageError

QOS_FORMAT = (
    "Name,Flags,GraceTime,Preempt,PreemptMode,MaxWall,MaxJobsPU,MaxSubmitJobsPU,MaxTRESPU,MaxSubmitJobsPA,GrpSubmit"
)
USER_FORMAT = "DefaultAccount,Account,Partition,MaxSubmitJobs,GrpSubmitJobs,DefaultQOS,Cluster,QOS,MaxWall"
"""Columns of `sacctmgr -nP show user NAME withassoc`. They include limits of parent accounts, except group limits."""

_FIELD = re.compile(r"(\S+?)=(\S*)")
_CRED_EXPIRE = re.compile(r"cred_expire=(\d+)")
_USUAL_CRED_EXPIRE = 120
_MINUTES_A_DAY = 1440
_USUAL_QOS = "normal"
LIMITS = frozenset({"limits", "safe", "all"})
RIGHTS = LIMITS | {"associations", "qos"}
"""Words of AccountingStorageEnforce with which limits apply, or a job needs an account and a QOS of its user."""

_KINDS = (
    ("MaxSubmitJobsPU", "MaxSubmitJobs", False),
    ("MaxSubmitJobsPA", "", True),
    ("GrpSubmit", "GrpSubmitJobs", True),
)
"""Limits on the queue, as a QOS and as an association name them, and whether other users' jobs count too.

They limit the jobs that wait and run together. Slurm itself applies limits on running jobs (MaxJobs): it keeps the jobs
in the queue, and gives the reason.
"""


@dataclass(frozen=True)
class Association:
    """An account that this user may charge, with its QOS, in one partition or (where that is empty) in all.

    `fields` are the columns of USER_FORMAT, as sacctmgr prints them.
    """

    account: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str
    minutes: float | None
    is_default: bool
    fields: Mapping[str, str]


def parse_config(text: str) -> dict[str, str]:
    """Return the settings in the output of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """Return each partition's fields, in the output of `scontrol -o show partition`."""
    lines = [dict(_FIELD.findall(line)) for line in text.splitlines()]
    return {fields["PartitionName"]: fields for fields in lines if "PartitionName" in fields}


def parse_minutes(text: str) -> float | None:
    """Return the minutes in `1-12:00:00`, `12:00:00` or `59:00`; None for UNLIMITED and similar words."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * _MINUTES_A_DAY + hours * 60 + minutes + seconds / 60


def parse_qos(text: str) -> dict[str, dict[str, str]]:
    """Return each QOS's fields, in the output of `sacctmgr -nP show qos format=QOS_FORMAT`."""
    rows = [dict(zip(QOS_FORMAT.split(","), line.split("|"), strict=False)) for line in text.splitlines() if line]
    return {row["Name"]: row for row in rows}


def parse_associations(text: str, cluster: str) -> list[Association]:
    """Return the associations on this cluster, in sacctmgr's output for USER_FORMAT: slurmdbd may serve several."""
    columns = USER_FORMAT.split(",")
    rows = [dict(zip(columns, line.split("|"), strict=False)) for line in text.splitlines()]
    return [
        Association(
            account=row["Account"],
            partition=row["Partition"],
            qos=tuple(name for name in row["QOS"].split(",") if name),
            default_qos=row["DefaultQOS"],
            minutes=parse_minutes(row["MaxWall"]),
            is_default=row["Account"] == row["DefaultAccount"],
            fields=row,
        )
        for row in rows
        if len(row) == len(columns) and row["Account"] and row["Cluster"] == cluster
    ]


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "config": parse_config,
    "partitions": parse_partitions,
    "qos": parse_qos,
}
"""The parsers of answers, by the part of `SlurmSite` that they fill."""


def parse_number(text: object) -> int | None:
    """Return the number at the beginning of a text: `300 sec` is 300. None where there is none."""
    match = re.match(r"\d+", str(text))
    return int(match[0]) if match else None


@dataclass(frozen=True)
class SlurmSite:
    """The settings that a Slurm site reports. A part that was not reported, or not asked, is empty."""

    config: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    qos: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    associations: Sequence[Association] = ()

    @property
    def cluster(self) -> str:
        """Return the cluster's name."""
        return self.config.get("ClusterName", "")

    @property
    def has_accounting(self) -> bool:
        """Return whether the site has accounting (slurmdbd)."""
        return self.config.get("AccountingStorageType", "").endswith("slurmdbd")

    def enforces(self, what: Collection[str]) -> bool:
        """Return whether the site enforces `what`: LIMITS, or RIGHTS."""
        enforced = {word.strip() for word in self.config.get("AccountingStorageEnforce", "").lower().split(",")}
        return self.has_accounting and not enforced.isdisjoint(what)

    @property
    def offers_scrontab(self) -> bool:
        """Return whether the site offers scrontab."""
        return "enable" in self.config.get("ScronParameters", "").split(",")

    def partitions_for(self, asked: Mapping[str, object]) -> list[str]:
        """Return the partitions of jobs with these variables: the requested ones, else the site's default."""
        default = next((name for name, fields in self.partitions.items() if fields.get("Default") == "YES"), "")
        return [name for name in str(asked.get("partition") or default).split(",") if name]

    def charged(self, asked: Mapping[str, object]) -> list[Association]:
        """Return the associations of such a job's account: those of one of its partitions, else those of all."""
        account, partitions = str(asked.get("account") or "").lower(), self.partitions_for(asked)
        mine = [row for row in self.associations if (row.account == account if account else row.is_default)]
        return [row for row in mine if row.partition in partitions] or [row for row in mine if not row.partition]

    def qos_for(self, asked: Mapping[str, object]) -> list[str]:
        """Return the QOS of such a job: those that it requests, else its account's default; empty if unknown."""
        default = next((row.default_qos for row in self.charged(asked) if row.default_qos), "")
        return [name for name in str(asked.get("qos") or default).split(",") if name]

    def exempts(self, qos: str) -> bool:
        """Return whether this QOS lets a job run longer than its partition allows."""
        return "PartitionTimeLimit" in self.qos.get(qos, {}).get("Flags", "")

    def find_excess(self, asked: Mapping[str, object]) -> str | None:
        """Return the partition whose time limit the job exceeds; None where it fits.

        `asked` has the variables as they are written.

        Raises:
            UsageError: no such partition.
        """
        names = self.partitions_for(asked)
        for name in names:
            if self.partitions and name not in self.partitions:
                known = ", ".join(sorted(self.partitions))
                raise UsageError(f"partition: there is no {name!r} here; there are {known}: choose one")
        minutes = asked.get("time_limit_minutes")
        limits = {name: self._longest(name) for name in names if name in self.partitions}
        # A job that names several partitions runs in any of them that allows it.
        is_over = all(limit is not None and isinstance(minutes, int) and minutes > limit for limit in limits.values())
        return max(limits, key=lambda name: limits[name] or 0) if limits and is_over else None

    def _longest(self, partition: str) -> float | None:
        return parse_minutes(self.partitions.get(partition, {}).get("MaxTime", ""))

    def limits_of(self, asked: Mapping[str, object]) -> Limits:
        """Return the limits on jobs with these variables (`asked`: the user's settings, else the profile's defaults).

        Where several levels set a limit, Slurm applies the first of: the partition's QOS, the job's QOS, the
        association. Where a job may run in several partitions, it is unknown whose own QOS applies.
        """
        known, rows = (self.qos, self.charged(asked)) if self.enforces(LIMITS) else ({}, [])
        names = self.partitions_for(asked)
        qos = next(iter(self.qos_for(asked)), _USUAL_QOS)
        levels: list[tuple[Mapping[str, str], tuple[str, str], str]] = []
        if len(names) == 1:
            own = self.partitions.get(names[0], {}).get("QoS", "")
            levels.append((known.get(own, {}), ("partition", names[0]), f"partition {names[0]}, QOS {own}"))
        levels.append((known.get(qos, {}), ("qos", qos), f"QOS {qos}"))
        levels += [(row.fields, ("account", row.account), f"account {row.account}") for row in rows]
        caps = list(_caps(levels))
        if most := parse_number(asked.get("max_queued") or ""):
            caps.append(Cap(("user", ""), most, f"max_queued = {most}"))
        largest = parse_number(self.config.get("MaxArraySize"))
        # the largest of the partitions' time limits, and at most the QOS's
        bounded = [limit for name in names if (limit := self._longest(name)) is not None]
        longest = max(bounded, default=None) if len(bounded) == len(names) else None
        of_qos = parse_minutes(known.get(qos, {}).get("MaxWall", ""))
        minutes = min((int(limit) for limit in (longest, of_qos) if limit is not None), default=None)
        return Limits(tuple(caps), None if largest is None else max(largest - 1, 1), minutes)

    @property
    def promises(self) -> Site:
        """Return the site's behaviour on requeue and preemption."""
        config = self.config
        preempts = config.get("PreemptType", "preempt/none") != "preempt/none"
        mode = config.get("PreemptMode", "OFF").lower() if preempts else "off"
        expire = _CRED_EXPIRE.search(config.get("AuthInfo", ""))
        return Site(
            backend="slurm",
            preempt_mode=mode if config else None,
            # Slurm holds a requeued job until its old credentials have expired, and 1 s longer
            requeue_hold_seconds=(int(expire[1]) if expire else _USUAL_CRED_EXPIRE) + 1.0 if config else None,
            min_job_age_seconds=parse_number(config.get("MinJobAge")),
            accounting=self.has_accounting,
            partitions={name: self._longest(name) for name in self.partitions},
            notes=tuple(self._notes(mode)),
            ways=tuple(self._ways()),
            scrontab=self.offers_scrontab,
        )

    def _ways(self) -> Iterator[str]:
        for name, fields in self.partitions.items():
            if fields.get("AllocNodes", "ALL") != "ALL":
                yield f"partition {name}: jobs are submitted from AllocNodes={fields['AllocNodes']} only"
        if self.offers_scrontab:
            yield "scrontab is available and can update the study"

    def _notes(self, mode: str) -> Iterator[str]:
        if self.config.get("JobRequeue") == "0":
            yield "JobRequeue=0: a job is requeued only if its script has --requeue"
        for name, fields in self.partitions.items():
            own = fields.get("PreemptMode", "").lower()
            if own and own not in (mode, "off"):
                yield f"partition {name}: preempted jobs are handled by PreemptMode={own.upper()}"
            if fields.get("State", "UP") != "UP":
                yield f"partition {name} is {fields['State']}"
        if "cancel" in mode:
            yield "a preempted job is cancelled, not requeued: it requeues itself, or lvjobs submits it again"
        if "send_user_signal" in self.config.get("PreemptParameters", ""):
            yield "a preempted job gets its own --signal, not SIGTERM"
        for name, row in self.qos.items():
            keys = ("MaxWall", "MaxJobsPU", "MaxSubmitJobsPU", "MaxTRESPU")
            limits = [f"{key}={row[key]}" for key in keys if row.get(key)]
            if row.get("Preempt"):
                limits.append(f"preempts {row['Preempt']}")
            if limits:
                yield f"qos {name}: {', '.join(limits)}"


def _caps(levels: Sequence[tuple[Mapping[str, str], tuple[str, str], str]]) -> Iterator[Cap]:
    for of_qos, of_association, shared in _KINDS:
        for row, place, name in levels:
            key = of_association if place[0] == "account" else of_qos
            if (most := parse_number(row.get(key))) is not None:
                yield Cap(place, most, f"{name}: {key}={most}", shared)
                break


def refuse_excess(minutes: object, partition: str, most: str) -> UsageError:
    """Return the error for a time limit over the partition's. `most` is that limit, as Slurm writes it."""
    return UsageError(
        f"time_limit: {minutes} minutes is over partition {partition}'s maximum, {most}: the job would never start; "
        f"set at most {most} (a run may use many jobs)"
    )
