"""Nodes as sinfo lists them, and node lists as Slurm writes them (`n[1-3],m2`). Pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.cluster.protocol import Node
from lvjobs.cluster.sites import parse_number

NODES_FORMAT = "%N|%P|%T|%c|%m|%G"
"""The format for sinfo with -N: one line for each node and partition. `*` marks the default partition."""

GROUPS_FORMAT = "%R|%D|%c|%m|%G|%T"
"""The format for sinfo, one line for nodes that are alike: partition, number of nodes, cores, memory, GRES, state."""

_UP = frozenset({"idle", "mixed", "allocated", "completing", "planned", "reserved"})
_NOT_RESPONDING = "*"
_GPUS = re.compile(r"\bgpu(?::[^:,()]+)?:(\d+)")


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
        """Return whether no job can start there at the moment, however long it waits."""
        return not _is_up(self.state)


def parse_groups(text: str) -> list[NodeGroup]:
    """Return the groups of nodes in the output of `sinfo -h -a -e -o GROUPS_FORMAT`."""
    found = []
    for partition, nodes, cpus, memory, gres, state in _rows(text, GROUPS_FORMAT):
        count, cores, megabytes = (parse_number(size) or 0 for size in (nodes, cpus, memory))
        found.append(NodeGroup(partition, count, cores, megabytes, _gpus_of(gres), state))
    return found


def _rows(text: str, columns: str) -> Iterator[list[str]]:
    rows = (line.strip().split("|") for line in text.splitlines())
    return (row for row in rows if len(row) == columns.count("|") + 1)


def _gpus_of(gres: str) -> int:
    return sum(int(count) for count in _GPUS.findall(gres))


def parse_nodes(text: str, asked: Mapping[str, Any]) -> list[Node]:
    """Return the nodes that have what a job requests, from the output of `sinfo -h -a -N -o NODES_FORMAT`.

    `asked` holds the profile's variables: partition (or several, with commas), cpus, memory_mb, gpus.
    """
    wanted = {name for name in str(asked.get("partition") or "").split(",") if name}
    found: dict[str, Node] = {}
    for name, partition, state, cpus, memory, gres in _rows(text, NODES_FORMAT):
        is_default = partition.endswith("*")
        if (partition.rstrip("*") in wanted if wanted else is_default) and _has_room(cpus, memory, gres, asked):
            found[name] = Node(name, is_up=_is_up(state))
    return list(found.values())


def _is_up(state: str) -> bool:
    word = re.match(r"[a-z]*", state.lower())
    return word is not None and word[0] in _UP and _NOT_RESPONDING not in state


def _has_room(cpus: str, memory: str, gres: str, asked: Mapping[str, Any]) -> bool:
    """Return whether a whole node is large enough; a number that cannot be read does not rule it out."""
    pairs = ((cpus, asked.get("cpus")), (memory, asked.get("memory_mb")), (str(_gpus_of(gres)), asked.get("gpus")))
    return all(not have.isdecimal() or int(have) >= int(want or 0) for have, want in pairs)


def expand_nodes(lists: Collection[str]) -> set[str]:
    """Return the names in node lists: `n[1-2,07]` is n1, n2 and n07. A text that is no node list is kept as it is."""
    return {name for text in lists for part in re.split(r",(?![^\[]*\])", text) for name in _expand(part.strip())}


def _expand(part: str) -> Sequence[str]:
    match = re.fullmatch(r"([^\[]*)\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\](.*)", part)
    if match is None:
        return [part] if part else []
    numbers: list[str] = []
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", match[2]):
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return [name for number in numbers for name in _expand(f"{match[1]}{number}{match[3]}")]
