"""The processes that a program is started as, on each node: by `launch` of [train]. Pure.

launch       on each node                                  variables
once, node   the command                                   none
torchrun     torchrun and the command                      those of torchrun
process      the command, as often as `processes` says     RANK, WORLD_SIZE and their kin; SLURM_PROCID and its kin
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.placeholders import arguments, fill


@dataclass(frozen=True)
class Order:
    """One process of a node: its rank among all of the run, its command, and the variables that it gets."""

    rank: int
    command: Sequence[str]
    variables: Mapping[str, str]


def orders_of(
    config: CommandConfig,
    words: Sequence[str],
    values: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    on_slurm: bool,
) -> list[list[Order]]:
    """Return what each node starts.

    Args:
        config: The run's settings.
        words: The command, with its placeholders.
        values: The value of each placeholder on the first node.
        variables: Variables of every process, beside those of `environment`.
        on_slurm: Whether the job is one of Slurm, whose variables describe it.
    """
    return [_of_a_node(config, words, {**values, "node_rank": node}, variables, on_slurm) for node in _nodes(values)]


def _nodes(values: Mapping[str, Any]) -> range:
    return range(int(values["nodes"]))


def _of_a_node(
    config: CommandConfig,
    words: Sequence[str],
    values: Mapping[str, Any],
    variables: Mapping[str, str],
    on_slurm: bool,
) -> list[Order]:
    command = arguments(words, values)
    own = {**variables, **{key: fill(text, values) for key, text in config.environment.items()}}
    node = int(values["node_rank"])
    if config.launch == "torchrun":
        return [Order(node, [*_torchrun(values), *command], own)]
    if config.launch != "process":
        return [Order(node, command, own)]
    count = int(values["processes"])
    return [
        Order(node * count + place, command, {**_of_a_rank(values, place, on_slurm), **own}) for place in range(count)
    ]


def _torchrun(values: Mapping[str, Any]) -> list[str]:
    if int(values["nodes"]) == 1:
        meeting = ["--standalone"]  # it finds a free port itself
    else:
        meeting = [f"--master-addr={values['head']}", f"--master-port={values['port']}"]
    counts = [f"--nnodes={values['nodes']}", f"--nproc-per-node={values['processes']}"]
    return ["torchrun", *counts, f"--node-rank={values['node_rank']}", *meeting]


def _of_a_rank(values: Mapping[str, Any], place: int, on_slurm: bool) -> dict[str, str]:
    """Return the variables by which a process finds the others: those of torchrun, and Slurm's, as srun sets them."""
    node, count = int(values["node_rank"]), int(values["processes"])
    rank, size = str(node * count + place), str(int(values["nodes"]) * count)
    found = {
        "RANK": rank,
        "LOCAL_RANK": str(place),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": str(values["head"]),
        "MASTER_PORT": str(values["port"]),
    }
    if on_slurm:  # else those of an interactive job may be there, which do not describe the run
        found |= {
            "SLURM_PROCID": rank,
            "SLURM_LOCALID": str(place),
            "SLURM_NODEID": str(node),
            "SLURM_NTASKS": size,
            "SLURM_NPROCS": size,
            "SLURM_NTASKS_PER_NODE": str(count),
        }
    return found
