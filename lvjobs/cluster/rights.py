"""What this user may ask of a site, and what its nodes have, read off sacctmgr, scontrol and sinfo. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lvjobs.cluster.limits import USER_FORMAT
from lvjobs.cluster.sites import parse_minutes

RIGHTS_FORMAT = f"{USER_FORMAT},Cluster,QOS,MaxWall"
"""Columns of `sacctmgr -nP show user NAME withassoc`: those that limits are read off, and then what else is asked."""

NODE_FORMAT = "%R|%D|%c|%m|%G|%T"
"""sinfo's: partition, how many nodes, their cores, memory, GRES, and state."""

_BINDING = frozenset({"associations", "limits", "qos", "safe", "all"})
_GPUS = re.compile(r"\bgpu(?::[^:,()]+)?:(\d+)")
_OUT = ("down", "drain", "fail", "unk", "boot", "power", "maint", "inval", "future")


@dataclass(frozen=True)
class Association:
    """An account that this user may charge, in one partition or (empty) in all, and under which QOS."""

    account: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str
    minutes: float | None
    is_default: bool


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of a partition that are alike."""

    partition: str
    nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    state: str

    @property
    def is_out(self) -> bool:
        """Whether no job starts there at the moment, however long it waits."""
        return self.state.endswith("*") or self.state.lower().startswith(_OUT)


def binds(config: Mapping[str, str]) -> bool:
    """Whether a job needs an account and a QOS that are its user's."""
    enforced = {word.strip() for word in config.get("AccountingStorageEnforce", "").lower().split(",")}
    return has_accounting(config) and bool(_BINDING & enforced)


def has_accounting(config: Mapping[str, str]) -> bool:
    """Whether the site keeps accounts (slurmdbd)."""
    return config.get("AccountingStorageType", "").endswith("slurmdbd")


def of_cluster(text: str, cluster: str) -> str:
    """The rows of what sacctmgr printed by RIGHTS_FORMAT that are of this cluster: slurmdbd may serve several."""
    column = RIGHTS_FORMAT.split(",").index("Cluster")
    rows = [line for line in text.splitlines() if line.split("|")[column : column + 1] == [cluster]]
    return "".join(f"{line}\n" for line in rows)


def parse_associations(text: str) -> list[Association]:
    """The associations in what sacctmgr printed by RIGHTS_FORMAT."""
    columns = RIGHTS_FORMAT.split(",")
    found = []
    for line in text.splitlines():
        row = dict(zip(columns, line.split("|"), strict=False))
        if len(row) == len(columns) and row["Account"]:
            found.append(
                Association(
                    account=row["Account"],
                    partition=row["Partition"],
                    qos=tuple(name for name in row["QOS"].split(",") if name),
                    default_qos=row["DefaultQOS"],
                    minutes=parse_minutes(row["MaxWall"]),
                    is_default=row["Account"] == row["DefaultAccount"],
                )
            )
    return found


def parse_nodes(text: str) -> list[NodeGroup]:
    """The groups of nodes in what sinfo printed by NODE_FORMAT."""
    found = []
    for line in text.splitlines():
        values = line.split("|")
        if len(values) == len(NODE_FORMAT.split("|")):
            partition, nodes, cpus, memory, gres, state = values
            gpus = sum(int(count) for count in _GPUS.findall(gres))
            found.append(NodeGroup(partition, _number(nodes), _number(cpus), _number(memory), gpus, state))
    return found


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


@dataclass(frozen=True)
class Barrier:
    """Why a partition does not take a job, and what follows. `is_sure`: it never does; else it may, or may later."""

    what: str
    means: str = "a job waits there for ever, or is refused"
    is_sure: bool = True


def barriers(
    fields: Mapping[str, str], accounts: Collection[str], qos: Collection[str], groups: Collection[str]
) -> Iterator[Barrier]:
    """What a partition's fields (`scontrol show partition`) say against a job of these accounts, QOS and groups."""
    name = fields.get("PartitionName", "")
    if (state := fields.get("State", "UP")) != "UP":
        yield Barrier(f"{name} is {state}", "it starts no jobs until it is UP again; runs wait for that", is_sure=False)
    if fields.get("RootOnly") == "YES":
        yield Barrier(f"{name} takes jobs of root alone (RootOnly)")
    if fields.get("ReqResv") == "YES":
        means = 'sbatch refuses a job that names none: extra_sbatch = ["--reservation=NAME"]'
        yield Barrier(f"{name} takes jobs with a reservation alone (ReqResv)", means, is_sure=False)
    if not _takes(fields, "AllowGroups", groups):
        yield Barrier(f"{name} takes the groups {fields['AllowGroups']} alone, and you are in none of them")
    if accounts and not _takes(fields, "AllowAccounts", accounts):
        # Since Slurm 23.02 an account is allowed where one above it is, and who is above whom was not asked.
        only = f"{name} takes the accounts {fields['AllowAccounts']} alone, and those below them"
        yield Barrier(only, "sbatch knows whether yours is below one of them", is_sure=False)
    for key, mine in (("DenyAccounts", accounts), ("DenyQos", qos)):
        if denied := _listed(fields, key) & {each.lower() for each in mine}:
            yield Barrier(f"{name} does not take {', '.join(sorted(denied))} ({key})")
    if qos and not _takes(fields, "AllowQos", qos):
        yield Barrier(f"{name} takes the QOS {fields['AllowQos']} alone")


def _listed(fields: Mapping[str, str], key: str) -> set[str]:
    names = {name.lower() for name in fields.get(key, "").split(",") if name}
    return names - {"all", "none", "n/a", "(null)"}


def _takes(fields: Mapping[str, str], key: str, mine: Collection[str]) -> bool:
    allowed = _listed(fields, key)
    return not allowed or bool(allowed & {each.lower() for each in mine})
