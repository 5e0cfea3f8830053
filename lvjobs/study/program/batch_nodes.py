"""The nodes and tasks that a batch script requests, and what its last command starts on them. Pure.

    srun python train.py       launch = "process": the command once for each task of a node
    srun torchrun train.py     launch = "torchrun": the script; torchrun's options are lvjobs' own

All else on several nodes or tasks is refused, because only a person knows what it does there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NoReturn

from lvjobs.errors import UsageError
from lvjobs.study.program.shell_words import shown

UNKNOWN = "\0"
"""Follows a word that only a shell can expand; after it stands what is unknown of the word."""

SET_BY_LVJOBS = frozenset({
    *("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE"),
})  # fmt: skip
"""Variables by which processes find one another."""

_MEETING = frozenset(
    {"rdzv_id", "rdzv_backend", "rdzv_endpoint", "rdzv_conf", "node_rank", "master_addr", "master_port"}
)
"""Options of torchrun by which its processes find one another. lvjobs writes its own."""

_LEFT_OUT = frozenset({"max_restarts", "monitor_interval", "log_dir", "tee", "redirects", "role", "start_method"})
"""Options of torchrun that a run of lvjobs does not need: it restarts the run, and keeps what the run prints."""

_ALL_GPUS = frozenset({"gpu", "auto", "{gpus}"})


@dataclass(frozen=True)
class Tasks:
    """The nodes of a job, and Slurm's tasks on each of them."""

    nodes: int = 1
    on_each: int = 1

    @property
    def are_several(self) -> bool:
        """Return whether there is more than one task."""
        return self.nodes * self.on_each > 1


@dataclass
class Spread:
    """A command for several nodes or tasks.

    Attributes:
        launch: The key of [train].
        command: The command that lvjobs starts so.
        processes: The key of [resources]; None is one for each GPU.
        notes: What was left out.
    """

    launch: str
    command: list[str]
    processes: int | None
    notes: list[str] = field(default_factory=list)


def refuse(line: int, why: str, remedy: str) -> NoReturn:
    """Raise UsageError, in one line, about nodes or tasks that cannot be taken over."""
    raise UsageError(f"line {line}: {why}; nothing was written: {remedy}")


BY_HAND = "request 1 node and 1 task, then set nodes or processes under [resources], and launch under [train]"


def tasks_of(options: Mapping[str, tuple[str, int]]) -> Tasks:
    """Return the tasks that the options `nodes`, `ntasks` and `ntasks-per-node` request; each has its value and line.

    Raises:
        UsageError: they do not say how many tasks each node has.
    """
    counts = {name: _count(name, *option) for name, option in options.items()}
    nodes, total, on_each = (counts.get(name) for name in ("nodes", "ntasks", "ntasks-per-node"))
    if on_each is not None:
        found = Tasks(nodes or 1, on_each)
        if total not in (None, found.nodes * on_each):
            refuse(options["ntasks"][1], f"ntasks = {total} is not nodes x ntasks-per-node", "correct or remove it")
        return found
    if total in (None, nodes):
        return Tasks(nodes or 1)
    if nodes == 1 or total == 1:
        return Tasks(1, total or 1)
    refuse(
        options["ntasks"][1], f"ntasks = {total}: Slurm alone decides how many each node gets", "write ntasks-per-node"
    )


def _count(name: str, value: str, line: int) -> int:
    match = re.fullmatch(r"0*(\d+)(?:-0*\1)?", value)
    if match is None or not int(match[1]):
        refuse(line, f"{name} = {shown(value)} is no single number", BY_HAND)
    return int(match[1])


def check_srun(name: str, value: str, line: int, tasks: Tasks) -> None:
    """Refuse an option of srun that requests other nodes or tasks than the job has.

    Raises:
        UsageError: it does.
    """
    own = {"nodes": tasks.nodes, "ntasks": tasks.nodes * tasks.on_each, "ntasks-per-node": tasks.on_each}[name]
    known = value.partition(UNKNOWN)[0]
    if (name, known) == ("nodes", "{nodes}"):
        return
    if not known.isdecimal() or int(known) != own:
        refuse(line, f"srun's {name} = {shown(known)}, and the job's is {own}", f"make them equal, or {BY_HAND}")


def spread(words: Sequence[str], line: int, tasks: Tasks, *, by_srun: bool) -> Spread:
    """Return a command for several nodes or tasks.

    Args:
        words: The command, without srun and its options.
        line: Its line.
        tasks: The job's.
        by_srun: Whether srun starts it.

    Raises:
        UsageError: it is neither Python nor torchrun, started by srun.
    """
    requested = f"{tasks.nodes} x {tasks.on_each} tasks" if tasks.on_each > 1 else f"{tasks.nodes} nodes"
    first = PurePath(words[0]).name
    if not by_srun:
        refuse(line, f"{shown(first)} is not started by srun, so it runs once, not on {requested}", BY_HAND)
    if first == "torchrun":
        return _torchrun(words[1:], line, tasks)
    if not re.fullmatch(r"python[\d.]*", first):
        refuse(line, f"srun {shown(first)} on {requested} cannot be taken over", BY_HAND)
    if words[1:2] == ["-m"] and words[2:3] in (["torch.distributed.run"], ["torch.distributed.launch"]):
        return _torchrun(words[3:], line, tasks)
    return Spread("process", list(words), tasks.on_each)


def _torchrun(words: Sequence[str], line: int, tasks: Tasks) -> Spread:
    """Return the script after torchrun's options.

    Raises:
        UsageError: an option is not known, or does not fit the job.
    """
    if tasks.on_each > 1:
        refuse(line, f"srun starts torchrun {tasks.on_each} times on each node", "write ntasks-per-node = 1")
    found, rest = Spread("torchrun", [], 1), list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "--module"):
        written, equals, value = rest.pop(0).partition("=")
        name = written.lstrip("-").replace("-", "_")
        if not equals and rest:
            value = rest.pop(0)
        if name == "nproc_per_node":
            found.processes = None if value in _ALL_GPUS else _processes(value, line)
        elif name == "nnodes":
            if value not in ("{nodes}", str(tasks.nodes), f"{tasks.nodes}:{tasks.nodes}"):
                refuse(line, f"torchrun's nnodes = {_words(value)}, and the job has {tasks.nodes}", BY_HAND)
        elif name in _LEFT_OUT:
            found.notes.append(f"line {line}: left out: {written} {_words(value)}: lvjobs restarts and logs the run")
        elif name not in _MEETING:
            refuse(line, f"torchrun's option {shown(written)} cannot be taken over", f"remove it, or {BY_HAND}")
    if rest and rest[0] == "--module":
        rest[0] = "-m"
    if not rest:
        refuse(line, "no script follows torchrun", "name it there")
    found.command = rest
    return found


def _processes(value: str, line: int) -> int:
    if not value.isdecimal() or not int(value):
        refuse(line, f"torchrun's nproc_per_node = {_words(value)} is no number", "write the number there")
    return int(value)


def _words(value: str) -> str:
    return shown(value.partition(UNKNOWN)[0])
