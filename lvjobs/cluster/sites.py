"""What a site promises, read off `scontrol show config`, `scontrol -o show partition` and sacctmgr. Pure."""

import re
from collections.abc import Iterator, Mapping

from lvjobs.cluster.protocol import Site
from lvjobs.errors import UsageError

_FIELD = re.compile(r"(\S+?)=(\S*)")
_CRED_EXPIRE = re.compile(r"cred_expire=(\d+)")
_USUAL_CRED_EXPIRE = 120
_MINUTES_A_DAY = 1440

QOS_FORMAT = (
    "Name,Flags,GraceTime,Preempt,PreemptMode,MaxWall,MaxJobsPU,MaxSubmitJobsPU,MaxTRESPU,MaxSubmitJobsPA,GrpSubmit"
)


def parse_config(text: str) -> dict[str, str]:
    """The settings in what `scontrol show config` printed."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """Partition -> its fields, in what `scontrol -o show partition` printed."""
    lines = [dict(_FIELD.findall(line)) for line in text.splitlines()]
    return {fields["PartitionName"]: fields for fields in lines if "PartitionName" in fields}


def parse_minutes(text: str) -> float | None:
    """Return the minutes in `1-12:00:00`, `12:00:00` or `59:00`; None for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * _MINUTES_A_DAY + hours * 60 + minutes + seconds / 60


def parse_qos(text: str) -> dict[str, dict[str, str]]:
    """QOS -> its fields, in what `sacctmgr -nP show qos format=QOS_FORMAT` printed."""
    names = QOS_FORMAT.split(",")
    rows = [dict(zip(names, line.split("|"), strict=False)) for line in text.splitlines() if line]
    return {row["Name"]: row for row in rows}


def _seconds(text: str | None) -> float | None:
    match = re.match(r"\d+", text or "")
    return float(match[0]) if match else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def site_of(config: Mapping[str, str], partitions: Mapping[str, Mapping[str, str]], qos_text: str = "") -> Site:
    """The site that these answers describe."""
    preempts = config.get("PreemptType", "preempt/none") != "preempt/none"
    mode = config.get("PreemptMode", "OFF").lower() if preempts else "off"
    expire = _CRED_EXPIRE.search(config.get("AuthInfo", ""))
    requeue = config.get("JobRequeue")
    scrontab = "enable" in config.get("ScronParameters", "").split(",")
    return Site(
        backend="slurm",
        requeue=requeue == "1" if requeue in ("0", "1") else None,
        preempt_mode=mode if config else None,
        # Slurm holds a requeued job until its old credentials have expired, and one second more
        requeue_hold_seconds=(int(expire[1]) if expire else _USUAL_CRED_EXPIRE) + 1.0 if config else None,
        kill_wait_seconds=_seconds(config.get("KillWait")),
        min_job_age_seconds=_seconds(config.get("MinJobAge")),
        max_array_size=_number(config.get("MaxArraySize")),
        accounting=config.get("AccountingStorageType", "").endswith("slurmdbd"),
        partitions={name: parse_minutes(fields.get("MaxTime", "")) for name, fields in partitions.items()},
        notes=tuple(_notes(config, partitions, mode, qos_text)),
        ways=tuple(_ways(partitions, scrontab=scrontab)),
        scrontab=scrontab,
    )


def _ways(partitions: Mapping[str, Mapping[str, str]], *, scrontab: bool) -> Iterator[str]:
    for name, fields in partitions.items():
        if fields.get("AllocNodes", "ALL") != "ALL":
            yield f"partition {name}: jobs are submitted from AllocNodes={fields['AllocNodes']} only"
    if scrontab:
        yield "scrontab is offered: it can keep a study going"


def _notes(
    config: Mapping[str, str], partitions: Mapping[str, Mapping[str, str]], mode: str, qos_text: str
) -> list[str]:
    notes = []
    if config.get("JobRequeue") == "0":
        notes.append("JobRequeue=0: a job is put back in the queue only because its script asks for it (--requeue)")
    for name, fields in partitions.items():
        own = fields.get("PreemptMode", "").lower()
        if own and own not in (mode, "off"):
            notes.append(f"partition {name}: a preempted job is treated by PreemptMode={own.upper()}")
        if fields.get("State", "UP") != "UP":
            notes.append(f"partition {name} is {fields['State']}")
    if "cancel" in mode:
        notes.append("a preempted job is cancelled, not requeued: it puts itself back in the queue, or is sent anew")
    if "send_user_signal" in config.get("PreemptParameters", ""):
        notes.append("a preempted job is told by its own --signal, not by SIGTERM")
    for name, row in parse_qos(qos_text).items():
        limits = [
            f"{key}={row[key]}" for key in ("MaxWall", "MaxJobsPU", "MaxSubmitJobsPU", "MaxTRESPU") if row.get(key)
        ]
        if row.get("Preempt"):
            limits.append(f"preempts {row['Preempt']}")
        if limits:
            notes.append(f"qos {name}: {', '.join(limits)}")
    return notes


def default_partition(partitions: Mapping[str, Mapping[str, str]]) -> str | None:
    """The partition of a job that names none."""
    return next((name for name, fields in partitions.items() if fields.get("Default") == "YES"), None)


def find_excess(asked: Mapping[str, object], partitions: Mapping[str, Mapping[str, str]]) -> str | None:
    """Which partition's time limit a job is over, if it is; the other things that can never work are refused.

    `asked` has the profile's variables as they will be written: what the user set, else the defaults.

    Raises:
        UsageError: no such partition.
    """
    names = str(asked.get("partition") or default_partition(partitions) or "").split(",")
    for name in names:
        if name and partitions and name not in partitions:
            raise UsageError(
                f"partition: there is no {name!r} here; there are {', '.join(sorted(partitions))}: choose one"
            )
    minutes = asked.get("time_limit_minutes")
    limits = {name: parse_minutes(partitions[name].get("MaxTime", "")) for name in names if name in partitions}
    # A job that names several partitions runs in whichever allows it.
    if isinstance(minutes, int) and limits and all(limit is not None and minutes > limit for limit in limits.values()):
        return max(limits, key=lambda name: limits[name] or 0)
    return None


def refuse_excess(minutes: object, partition: str, most: str) -> UsageError:
    """The error for a time limit over the partition's."""
    return UsageError(
        f"time_limit: {minutes} minutes is over partition {partition}'s maximum, {most}: the job would wait for ever; "
        f"ask for at most {most} (a run may take many jobs)"
    )
