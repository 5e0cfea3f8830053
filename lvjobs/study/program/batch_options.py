"""The #SBATCH lines of an existing batch script as keys of [resources]. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.study.program.batch_nodes import Tasks, check_srun, refuse, tasks_of
from lvjobs.study.program.shell_words import NotConstant, commands_in, shown

LETTERS = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "G": "gpus", "J": "job-name",
    "L": "licenses", "M": "clusters", "N": "nodes", "S": "core-spec", "W": "wait", "a": "array", "b": "begin",
    "c": "cpus-per-task", "d": "dependency", "e": "error", "i": "input", "k": "no-kill", "m": "distribution",
    "n": "ntasks", "o": "output", "p": "partition", "q": "qos", "t": "time", "w": "nodelist", "x": "exclude",
    "H": "hold", "I": "immediate", "O": "overcommit", "Q": "quiet", "s": "oversubscribe", "v": "verbose",
}  # fmt: skip
"""sbatch's letters, and the long names of the same options."""

LEFT_OUT = {
    "array": "write a [[stage]] with a grid instead: its runs become an array",
    "clusters": "run lvjobs on a login node of that cluster",
    "dependency": "write a [[stage]] with after = [...] instead",
    "chdir": "",
    "export": "lvjobs gives each program the environment under [train.environment]",
    "export-file": "lvjobs gives each program the environment under [train.environment]",
}
"""Options that are not taken over although lvjobs does not set them itself, and what to do instead."""

OURS = frozenset({
    *("cluster-constraint", "error", "get-user-env", "gid", "help", "input", "job-name", "no-requeue", "nodes"),
    *("ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "quiet", "requeue", "signal", "test-only"),
    *("uid", "usage", "verbose", "version", "wait", "wrap"),
})  # fmt: skip
"""Options that lvjobs sets itself, or could not submit with."""

_FLAGS = frozenset({
    *("contiguous", "exclusive", "help", "hold", "ignore-pbs", "immediate", "no-kill", "no-requeue", "overcommit"),
    *("oversubscribe", "parsable", "quiet", "reboot", "requeue", "spread-job", "test-only", "usage", "use-min-nodes"),
    *("verbose", "version", "wait"),
})  # fmt: skip
"""Options whose value, if they take one, follows a `=`."""

_SRUN_FLAGS = frozenset({
    *("contiguous", "disable-status", "exact", "exclusive", "immediate", "interactive", "kill-on-bad-exit", "label"),
    *("mpi-combine", "multi-prog", "no-kill", "overcommit", "overlap", "oversubscribe", "preserve-env", "pty", "quiet"),
    *("quit-on-interrupt", "spread-job", "unbuffered", "use-min-nodes", "verbose", "whole"),
})  # fmt: skip
_SRUN_LETTERS = frozenset("EHIKOQXZlsuv")

_PLAIN = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "time_limit",
    "cpus-per-task": "cpus",
}
_MEMORY = {"mem": "", "mem-per-cpu": "cpus", "mem-per-gpu": "gpus"}
_GPUS = ("gpus", "gpus-per-node", "gpus-per-task", "gres")
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024, "": 1}


@dataclass
class BatchOptions:
    """The options in the #SBATCH lines of a script.

    Attributes:
        resources: Keys of [resources].
        tasks: The nodes of the job, and the tasks on each.
        directory: The job's working directory, if a line names one.
        notes: What was left out, and why.
    """

    resources: dict[str, Any] = field(default_factory=dict)
    tasks: Tasks = field(default_factory=Tasks)
    directory: str = ""
    notes: list[str] = field(default_factory=list)


def read_options(text: str) -> BatchOptions:
    """Return what the #SBATCH lines say. As for sbatch, those after the first command are comments.

    Raises:
        UsageError: they do not say how many tasks each node has, or a line cannot be read.
    """
    found, memory = BatchOptions(), {}
    own: list[str] = []
    counts: dict[str, tuple[str, int]] = {}
    gpus = ("", 0)
    for number, name, value, written in _options(text, found.notes):
        if name in ("nodes", "ntasks", "ntasks-per-node"):
            counts[name] = (value, number)
        if name in _PLAIN:
            found.resources[_PLAIN[name]] = int(value) if name == "cpus-per-task" and value.isdigit() else value
            if name == "time" and value.isdigit():
                found.resources["time_limit"] = f"{value}m"
        elif name in _MEMORY:
            memory = {name: value}
        elif name == "exclude":
            found.resources["exclude_nodes"] = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", value)
        elif name in _GPUS and (
            match := re.fullmatch(r"(?:gpu:)?(?:(?P<type>[A-Za-z][\w.-]*):)?(?P<count>\d+)", value)
        ):
            found.resources["gpus"], gpus = int(match["count"]), (name, number)
            if match["type"]:
                found.notes.append(
                    f"line {number}: the GPU type {match['type']} was left out, because the profile defines how GPUs "
                    f"are requested; choose "
                    "the partition, or a profile, that has this type"
                )
        elif name == "signal" and (match := re.search(r"@(\d+)$", value)) and int(match[1]):
            found.resources["signal_lead_seconds"] = int(match[1])
            found.notes.append(
                f"line {number}: --signal={shown(value)}: lvjobs warns the job itself, as early; if the program saves "
                "and ends when it gets this signal, name it: stop under [train]"
            )
        elif name == "chdir":
            found.directory = value
        elif name in LEFT_OUT:
            found.notes.append(f"line {number}: --{name} was left out: {LEFT_OUT[name]}")
        elif name in OURS:
            own.append(f"--{name}")
        else:
            found.resources.setdefault("extra_sbatch", []).append(written)
    found.tasks = tasks_of(counts)
    _of_each_node(found, *gpus)
    for name, value in memory.items():
        _memory(found, name, value)
    if own:
        names = ", ".join(dict.fromkeys(own))
        found.notes.append(f"left out, because lvjobs sets {'this' if len(own) == 1 else 'these'} itself: {names}")
    return found


def _of_each_node(found: BatchOptions, gpus: str, line: int) -> None:
    """Make cores and GPUs those of a node; `gpus` is the option that requests them, on this line.

    Raises:
        UsageError: the GPUs of all nodes together are no multiple of the nodes.
    """
    keys, tasks = found.resources, found.tasks
    if tasks.on_each > 1 and isinstance(keys.setdefault("cpus", 1), int):
        keys["cpus"] *= tasks.on_each
    if gpus == "gpus-per-task":
        keys["gpus"] *= tasks.on_each
    elif gpus == "gpus":
        if keys["gpus"] % tasks.nodes:
            refuse(line, f"{keys['gpus']} GPUs on {tasks.nodes} nodes", "write gpus-per-node")
        keys["gpus"] //= tasks.nodes


def _memory(found: BatchOptions, name: str, value: str) -> None:
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", value, re.IGNORECASE)
    number = int(found.resources.get(_MEMORY[name], 1)) if _MEMORY[name] else 1
    if match is None:
        found.notes.append(f"--{name}={shown(value)} was left out: write memory_mb under [resources]")
        return
    found.resources["memory_mb"] = round(int(match[1]) * _UNITS[match[2].upper()] * number)


def _options(text: str, notes: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, long name, value and text of each option."""
    has_begun = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#SBATCH"):
            has_begun = has_begun or not (line.lstrip().startswith("#") or not line.strip())
            continue
        if has_begun:
            notes.append(f"line {number} was left out: Slurm ignores #SBATCH lines after the first command")
            continue
        try:
            words = [word for command in commands_in(line[7:]) for each in command.words for word in each.expanded({})]
        except NotConstant as error:
            raise UsageError(f"line {number}: {error} has no value in a #SBATCH line; write the value") from None
        except UsageError as error:
            raise UsageError(f"line {number}: {str(error).removeprefix('line 1: ')}") from None
        yield from ((number, *option) for option in split_options(words))


def split_options(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield long name, value and text of each option in `words`; `-p x`, `-px`, `--partition x` and `--partition=x`."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        else:
            name, equals, value = LETTERS.get(word[1:2], word), "", word[2:].removeprefix("=")
        if not equals and not value and name not in _FLAGS and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        yield name, value, f"--{name}={value}" if value else f"--{name}"


def without_srun(words: list[str], line: int, tasks: Tasks) -> list[str]:
    """Return the words after srun's options.

    Raises:
        UsageError: an option requests other nodes or tasks than the job has.
    """
    names = {"n": "ntasks", "N": "nodes", "ntasks": "ntasks", "nodes": "nodes", "ntasks-per-node": "ntasks-per-node"}
    while words and words[0].startswith("-"):
        word, words = words[0], words[1:]
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            is_flag = bool(equals) or name in _SRUN_FLAGS
        else:
            name, value = word[1:2], word[2:]
            is_flag = bool(value) or name in _SRUN_LETTERS
        if not is_flag and words:
            value, words = words[0], words[1:]
        if name in names:
            check_srun(names[name], value, line, tasks)
    return words
