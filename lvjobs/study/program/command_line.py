"""A command line as the program of a run. Pure: nothing in it is executed."""

import re
from dataclasses import dataclass, field
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.study.program.batch_nodes import BY_HAND, SET_BY_LVJOBS, Tasks, refuse, spread
from lvjobs.study.program.batch_options import without_srun
from lvjobs.study.program.shell_words import NotConstant, commands_in, shown

_PREFIXES = frozenset({"exec", "time", "nohup", "command"})
_VARIABLE = re.compile(r"\A[A-Za-z_]\w*\Z")
_NODES = ("--nnodes", "--num_machines", "--num_nodes", "--trainer.num_nodes")
"""Options of launchers that say on how many nodes a program runs."""


@dataclass
class BatchScript:
    """The content of a batch script.

    Attributes:
        command: The run: a program and its arguments.
        launch: The key of [train], if several processes are started.
        tasks: The nodes of the job, and the tasks on each.
        resources: Keys of [resources].
        environment: Environment variables.
        directory: The working directory, relative to the one where the script is submitted.
        notes: What could not be taken over, each with its line.
    """

    command: list[str] = field(default_factory=list)
    launch: str = ""
    tasks: Tasks = field(default_factory=Tasks)
    resources: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = ""
    notes: list[str] = field(default_factory=list)


def split_command(text: str) -> list[str]:
    """Return the words of one command that is typed as in a shell.

    Raises:
        UsageError: it is no single command, or it needs a shell.
    """
    commands = [command for command in commands_in(text) if command.words or command.end in "()"]
    if len(commands) != 1 or commands[0].redirections or commands[0].end != "\n":
        raise UsageError(
            f"--command {shown(text)!r} is not one command: no shell reads it, so it has no pipes, redirections or "
            "semicolons; write it into a script, and type --command 'bash job.sh'"
        )
    try:
        return [word for each in commands[0].words for word in each.expanded({})]
    except NotConstant as error:
        raise UsageError(
            f"--command has {error}, which no shell fills in; write its value, or put single quotes around it if "
            "the program itself reads it"
        ) from None


def set_program(script: BatchScript, words: list[str], line: int = 1) -> None:
    """Set the run: the words without srun and other prefixes; their assignments become environment variables.

    On several nodes or tasks, they become what each node or each task starts (`batch_nodes`).

    Raises:
        UsageError: it is not clear what they start there, or no program is left.
    """
    by_srun = False
    while words:
        name, equals, value = words[0].partition("=")
        if equals and _VARIABLE.match(name):
            script.environment[name] = value
            words = words[1:]
        elif words[0] in _PREFIXES or (words[0] == "env" and "=" in " ".join(words[1:2])):
            words = words[1:]
        elif words[0] == "srun":
            words, by_srun = without_srun(words[1:], line, script.tasks), True
        else:
            break
    if not words:
        raise UsageError(f"line {line}: no program follows; nothing was written: name it there")
    if script.tasks.are_several:
        found = spread(words, line, script.tasks, by_srun=by_srun)
        words, script.launch = found.command, found.launch
        counts = {"nodes": script.tasks.nodes, "processes": found.processes}
        script.resources |= {key: count for key, count in counts.items() if count and (key, count) != ("nodes", 1)}
        script.notes += [
            *found.notes,
            *(
                f"line {line}: left out: {name}: lvjobs sets it for each process"
                for name in sorted(SET_BY_LVJOBS & script.environment.keys())
            ),
        ]
        script.environment = {name: value for name, value in script.environment.items() if name not in SET_BY_LVJOBS}
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        value = value if equals else "".join(words[place + 1 : place + 2])
        if name in _NODES and value.isdigit() and int(value) != script.tasks.nodes:
            refuse(line, f"{name} = {shown(value)}, and the job has {script.tasks.nodes}", BY_HAND)
    script.command = words
