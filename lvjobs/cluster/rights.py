"""The check whether a partition accepts this user's jobs, from the partition's fields. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Barrier:
    """A reason why a partition refuses a job, and the consequence. Where not `is_sure`, this may not be final."""

    what: str
    means: str = "a job waits there for ever, or is refused"
    is_sure: bool = True


def barriers(
    fields: Mapping[str, str], accounts: Collection[str], qos: Collection[str], groups: Collection[str]
) -> Iterator[Barrier]:
    """Yield what a partition's fields (`scontrol show partition`) have against a job.

    `accounts`, `qos` and `groups` are those that the job's user may have.
    """
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
        # Since Slurm 23.02 an account is allowed where one above it is. The hierarchy of accounts was not asked.
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
