"""How many jobs a site lets a user have, read off sacctmgr, `scontrol show config` and what the profile says. Pure.

What counts is what waits and runs together (MaxSubmitJobs and its kin). Limits on what runs at once (MaxJobs) are left
to Slurm: it keeps the jobs in the queue, and says why.
"""

from collections.abc import Iterator, Mapping, Sequence

from lvjobs.cluster.protocol import Cap, Limits
from lvjobs.cluster.sites import default_partition, parse_minutes, parse_qos

USER_FORMAT = "DefaultAccount,Account,Partition,MaxSubmitJobs,GrpSubmitJobs,DefaultQOS"
"""Columns of `sacctmgr -nP show user NAME withassoc`. Limits of the accounts above are in them, save group ones."""

_USUAL_QOS = "normal"
_ENFORCED = frozenset({"limits", "safe", "all"})

_KINDS = (
    ("MaxSubmitJobsPU", "MaxSubmitJobs", False),
    ("MaxSubmitJobsPA", "", True),
    ("GrpSubmit", "GrpSubmitJobs", True),
)
"""Limits on the queue, as a QOS and as an association call them, and whether other users' jobs count too."""


def enforces_limits(config: Mapping[str, str]) -> bool:
    """Whether sacctmgr's limits bind here."""
    enforced = {word.strip() for word in config.get("AccountingStorageEnforce", "").split(",")}
    return config.get("AccountingStorageType", "").endswith("slurmdbd") and bool(_ENFORCED & enforced)


def limits_of(
    asked: Mapping[str, object],
    config: Mapping[str, str],
    partitions: Mapping[str, Mapping[str, str]],
    qos_text: str = "",
    user_text: str = "",
) -> Limits:
    """The limits on jobs with these variables (`asked`: what the user set, else the profile's defaults).

    Where several levels set one, Slurm obeys the first of: the partition's QOS, the job's QOS, the association. Where a
    job may run in several partitions, none's own QOS is known to bind it.
    """
    names = [name for name in str(asked.get("partition") or default_partition(partitions) or "").split(",") if name]
    rows = _associations(user_text, str(asked.get("account") or ""), names)
    qos = str(asked.get("qos") or next((row["DefaultQOS"] for row in rows if row["DefaultQOS"]), _USUAL_QOS))
    known = parse_qos(qos_text)
    levels: list[tuple[Mapping[str, str], tuple[str, str], str]] = []
    if len(names) == 1:
        own = partitions.get(names[0], {}).get("QoS", "")
        levels.append((known.get(own, {}), ("partition", names[0]), f"partition {names[0]}, QOS {own}"))
    levels.append((known.get(qos, {}), ("qos", qos), f"QOS {qos}"))
    levels += [(row, ("account", row["Account"]), f"account {row['Account']}") for row in rows]
    caps = list(_caps(levels))
    if most := _count(asked.get("max_queued")):
        caps.append(Cap(("user", ""), most, f"max_queued = {most}"))
    largest = _count(config.get("MaxArraySize"))
    minutes = _longest([partitions.get(name, {}).get("MaxTime", "") for name in names], known.get(qos, {}))
    return Limits(tuple(caps), None if largest is None else max(largest - 1, 1), minutes)


def _longest(of_partitions: Sequence[str], qos: Mapping[str, str]) -> int | None:
    """Whole minutes of the longest time limit: of whichever partition allows most, and of the QOS."""
    times = [parse_minutes(text) for text in of_partitions]
    allowed = [max((time for time in times if time is not None), default=None) if None not in times else None]
    allowed.append(parse_minutes(qos.get("MaxWall", "")))
    return min((int(minutes) for minutes in allowed if minutes is not None), default=None)


def _associations(text: str, account: str, partitions: list[str]) -> list[dict[str, str]]:
    """The rows of the account that the job is charged to: of one of its partitions, or of none in particular."""
    columns = USER_FORMAT.split(",")
    rows = [dict(zip(columns, line.split("|"), strict=False)) for line in text.splitlines() if line]
    mine = [row for row in rows if len(row) == len(columns) and row["Account"] == (account or row["DefaultAccount"])]
    exact = [row for row in mine if row["Partition"] in partitions]
    return exact or [row for row in mine if not row["Partition"]]


def _caps(levels: Sequence[tuple[Mapping[str, str], tuple[str, str], str]]) -> Iterator[Cap]:
    for of_qos, of_association, shared in _KINDS:
        for row, place, name in levels:
            key = of_association if place[0] == "account" else of_qos
            if (most := _count(row.get(key))) is not None:
                yield Cap(place, most, f"{name}: {key}={most}", shared)
                break


def _count(value: object) -> int | None:
    return int(str(value)) if str(value).isdecimal() else None
