"""The checks whether this user's jobs are accepted: account, partition, QOS. Pure, except for the user's identity."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lvjobs.cluster.commands import user_name
from lvjobs.cluster.sites import RIGHTS
from lvjobs.doctor.interface import Asked, Diagnosis, Facts, error, fine, group_names, note

_MANY = 8


@dataclass(frozen=True)
class Barrier:
    """A reason why a partition refuses a job, and the consequence. Where not `is_sure`, this may not be final."""

    what: str
    means: str = "a job there never starts, or is refused"
    is_sure: bool = True


def barriers(
    fields: Mapping[str, str], accounts: Collection[str], qos: Collection[str], groups: Collection[str]
) -> Iterator[Barrier]:
    """Yield what a partition's fields (`scontrol show partition`) have against a job.

    `accounts`, `qos` and `groups` are those that the job's user may have.
    """
    name = fields.get("PartitionName", "")
    if (state := fields.get("State", "UP")) != "UP":
        yield Barrier(f"{name} is {state}", "it starts no jobs until it is UP again; runs wait", is_sure=False)
    if fields.get("RootOnly") == "YES":
        yield Barrier(f"{name} accepts jobs of root only (RootOnly)")
    if fields.get("ReqResv") == "YES":
        yield Barrier(
            f"{name} accepts only jobs with a reservation (ReqResv)",
            'sbatch refuses other jobs: extra_sbatch = ["--reservation=NAME"]',
            is_sure=False,
        )
    if not _takes(fields, "AllowGroups", groups):
        yield Barrier(f"{name} accepts the groups {fields['AllowGroups']} only, and you are in none of them")
    if accounts and not _takes(fields, "AllowAccounts", accounts):
        # Since Slurm 23.02 an account is allowed where one above it is. The hierarchy of accounts was not asked.
        yield Barrier(
            f"{name} accepts the accounts {fields['AllowAccounts']} only, and those below them",
            "sbatch checks that yours is among them",
            is_sure=False,
        )
    for key, mine in (("DenyAccounts", accounts), ("DenyQos", qos)):
        if denied := _names_in(fields, key) & {each.lower() for each in mine}:
            yield Barrier(f"{name} does not accept {', '.join(sorted(denied))} ({key})")
    if qos and not _takes(fields, "AllowQos", qos):
        yield Barrier(f"{name} accepts only the QOS {fields['AllowQos']}")


def _names_in(fields: Mapping[str, str], key: str) -> set[str]:
    names = {name.lower() for name in fields.get(key, "").split(",") if name}
    return names - {"all", "none", "n/a", "(null)"}


def _takes(fields: Mapping[str, str], key: str, mine: Collection[str]) -> bool:
    allowed = _names_in(fields, key)
    return not allowed or bool(allowed & {each.lower() for each in mine})


def check_account(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the account that would be charged is this user's."""
    yield _account(facts, asked)


def _account(facts: Facts, asked: Asked) -> Diagnosis:
    if not facts.has_accounting:
        return fine("account", "not needed: the site has no accounting")
    if problem := facts.replies["user"].problem:
        return note("account", f"sacctmgr did not list yours: {problem}", "sbatch will decide", _try_it(asked))
    mine = sorted({each.account for each in facts.associations})
    bound = facts.enforces(RIGHTS)
    if not mine:
        what = f"user {user_name()} has none on cluster {facts.cluster}"
        if bound:
            return error("account", what, "sbatch refuses every job", "ask the site to add you to a project's account")
        return fine("account", f"{what}, and the site requires none")
    account = str(asked.variables.get("account") or "")
    remedy = f'account = "{mine[0]}" under [resources] in study.toml, or --account {mine[0]}'
    needed = asked.script.variables - asked.script.defaults().keys() if asked.script is not None else ()
    if not account and "account" in needed:
        return note("account", f"the profile requires one; yours: {_listed(mine)}", "", remedy)
    if account.lower() in mine or (not account and facts.account_of(asked)):
        paying = account or f"{facts.account_of(asked)} (your default)"
        return fine("account", f"{paying} is charged" + (f"; yours: {_listed(mine)}" if len(mine) > 1 else ""))
    if not account:
        return note(
            "account",
            f"none is given and you have no default; yours: {_listed(mine)}",
            "sbatch may refuse the job",
            remedy,
        )
    what = f"{account!r} is not yours on cluster {facts.cluster}; yours: {_listed(mine)}"
    means = "sbatch refuses the job" if bound else "the site does not enforce accounts, so jobs run anyway"
    return (error if bound else note)("account", what, means, remedy)


def _try_it(asked: Asked) -> str:
    return "see sbatch's answer below" if asked.is_study else "name yours with --account, and see below"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {more} more" if more > 0 else "")


def check_partition(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the requested partitions exist, and accept such a job."""
    if not facts.partitions:
        yield note("partition", f"scontrol listed none: {facts.replies['partitions'].problem}")
        return
    names = facts.partitions_for(asked.variables)
    if not names:
        yield error(
            "partition",
            f"none is given and the site has no default; choose from {_listed(sorted(facts.partitions))}",
            "sbatch refuses the job",
            _name_one(facts, asked),
        )
    against = {name: _against(facts, asked, name) for name in names if name in facts.partitions}
    some_take_it = any(not any(barrier.is_sure for barrier in each) for each in against.values())
    for name in names:
        if name not in facts.partitions:
            yield error(
                "partition",
                f"there is no {name!r} on cluster {facts.cluster}; there are {_listed(sorted(facts.partitions))}",
                "sbatch refuses the job",
                _name_one(facts, asked),
            )
            continue
        for barrier in against[name]:
            level = error if barrier.is_sure and not some_take_it else note
            yield level("partition", barrier.what, barrier.means, _name_one(facts, asked, without=name))
        if not against[name]:
            own = "" if asked.variables.get("partition") else " (the site's default)"
            yield fine("partition", f"{name}{own}: {_described(facts, name)}")


def _against(facts: Facts, asked: Asked, name: str) -> list[Barrier]:
    account = facts.account_of(asked)
    mine = ([account] if account else [], facts.qos_for(asked.variables)[:1], group_names())
    return [*barriers(facts.partitions[name], *mine)]


def _described(facts: Facts, name: str) -> str:
    fields = facts.partitions[name]
    groups = [each for each in facts.nodes if each.partition == name]
    longest = fields.get("MaxTime", "")
    limit = "no time limit" if longest == "UNLIMITED" else f"at most {longest} a job"
    if not groups:
        return f"{fields.get('TotalNodes', '?')} nodes, {limit}"
    nodes, out = sum(each.nodes for each in groups), sum(each.nodes for each in groups if each.is_out)
    idle = sum(each.nodes for each in groups if each.state.lower() == "idle")
    down = f", {out} out of service" if out else ""
    gpus = sorted({each.gpus for each in groups})
    having = f"{gpus[0]} GPUs each" if len(gpus) == 1 else f"{gpus[0]} to {gpus[-1]} GPUs each"
    return f"{nodes} node{'s' if nodes > 1 else ''} ({idle} idle{down}), {having}, {limit}"


def _name_one(facts: Facts, asked: Asked, without: str = "") -> str:
    """Return a remedy that names a partition without barriers, if possible one with as many GPUs as requested."""
    names = [name for name in sorted(facts.partitions) if name != without]
    open_to = [name for name in names if not _against(facts, asked, name)]
    wanted = int(asked.variables.get("gpus") or 0)
    enough = {each.partition for each in facts.nodes if each.gpus >= wanted}
    best = next((name for name in open_to if name in enough), open_to[0] if open_to else "")
    if not best:
        return "ask the site which partition to use"
    return f'partition = "{best}" under [resources] in study.toml, or --partition {best}'


def check_qos(facts: Facts, asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the requested QOS are this user's."""
    if not facts.has_accounting:
        return
    if problem := facts.replies["qos"].problem or facts.replies["user"].problem:
        if asked.variables.get("qos"):
            yield note("QOS", f"sacctmgr did not list yours: {problem}", "sbatch will decide", _try_it(asked))
        return
    mine = {name for each in facts.charged(asked.variables) for name in each.qos}
    wanted = facts.qos_for(asked.variables)
    if not asked.variables.get("qos"):
        limits = _limits(facts.qos.get(wanted[0], {})) if wanted else ""
        yield fine("QOS", f"{wanted[0] if wanted else 'the usual one'} (by default){limits}")
        return
    bad = [name for name in wanted if name not in facts.qos or (mine and name not in mine)]
    others = f"; yours: {_listed(sorted(mine))}" if mine else ""
    for name in bad:
        what = f"there is no {name!r}" if name not in facts.qos else f"{name!r} is not yours"
        some_left = len(bad) < len(wanted)
        means = "it is skipped and the next one tried" if some_left else "sbatch refuses the job"
        level = note if some_left or not facts.enforces(RIGHTS) else error
        remedy = f'qos = "{min(mine)}" under [resources] in study.toml' if mine else "leave qos out"
        yield level("QOS", what + others, means, remedy)
    for name in wanted:
        if name not in bad:
            yield fine("QOS", f"{name}{_limits(facts.qos[name])}")


def _limits(row: Mapping[str, str]) -> str:
    shown = [f"{key} {row[key]}" for key in ("MaxWall", "MaxJobsPU", "MaxSubmitJobsPU", "MaxTRESPU") if row.get(key)]
    return f": {', '.join(shown)}" if shown else ""
