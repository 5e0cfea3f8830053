"""An existing batch script as the settings of a program. Pure: the script is only read; nothing in it is executed.

The last command of the script is the run. What stands above it is taken over where it is a module, an activation, a
constant or a working directory; everything else is reported with its line.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.study.program.batch_nodes import SET_BY_LVJOBS, UNKNOWN
from lvjobs.study.program.batch_options import read_options
from lvjobs.study.program.command_line import BatchScript, set_program
from lvjobs.study.program.shell_words import Command, NotConstant, Word, commands_in, shown

_BLOCKS = {
    **dict.fromkeys(("for", "while", "until", "select"), "done"),
    "if": "fi",
    "case": "esac",
    "function": "}",
    "{": "}",
    "(": ")",
}
"""The words that open a block, and those that close it."""

_INSIDE = frozenset({"do", "then", "else", "elif"})
_SILENT = frozenset({
    *("set", "shopt", "ulimit", "umask", "echo", "printf", "date", "hostname", "pwd", "nvidia-smi", "env", "free"),
    *("wait", "exit", "sleep", "true", ":", "trap", "scontrol", "squeue", "ls", "which", "lscpu", "uname"),
})  # fmt: skip
"""Commands that print, or that a run does not need. They are left out without a word."""

_PLACEHOLDERS = {
    "SLURM_GPUS_ON_NODE": "{gpus}",
    "SLURM_GPUS_PER_NODE": "{gpus}",
    "SLURM_NNODES": "{nodes}",
    "SLURM_JOB_NUM_NODES": "{nodes}",
    "SLURM_NODEID": "{node_rank}",
}
"""Variables of Slurm, and the placeholders with the same values."""

_HERE = ("SLURM_SUBMIT_DIR", "PWD")


def read_script(text: str) -> BatchScript:
    """Return what a batch script says.

    Raises:
        UsageError: it has no command that can be the run, or it is not clear what that starts on several nodes. One
            line names the place and the remedy.
    """
    options = read_options(text)
    reader = _Reader(
        BatchScript(tasks=options.tasks, resources=options.resources, directory=options.directory, notes=options.notes)
    )
    for command in commands_in(text):
        reader.read(command)
    return reader.finish()


class _Reader:
    """A reader of a script's commands, from the first to the last."""

    def __init__(self, script: BatchScript) -> None:
        self._script = script
        self._constants = dict(_PLACEHOLDERS)
        if cpus := script.resources.get("cpus"):
            self._constants["SLURM_CPUS_PER_TASK"] = str(cpus // script.tasks.on_each)
        if script.tasks.are_several:
            self._constants["SLURM_NTASKS"] = str(script.tasks.nodes * script.tasks.on_each)
            self._constants["SLURM_NTASKS_PER_NODE"] = str(script.tasks.on_each)
        self._run: Command | None = None
        self._tail: list[Command] = []
        self._before = ""
        """What ended the command before."""
        self._blocks: list[tuple[str, int, str]] = []
        """The blocks that are open: first word, first line, closing word."""
        self._block: tuple[str, int, int] | None = None
        """The newest block that ended: its first word, its first and its last line."""

    def read(self, command: Command) -> None:
        """Take over one command."""
        words = [word.plain for word in command.words]
        while words and words[0] in _INSIDE:
            words = words[1:]
        first = words[0] if words else command.end
        before, self._before = self._before, command.end
        if command.end == "(" or first in _BLOCKS:
            closing = ")" if command.end == "(" else _BLOCKS[first]
            self._blocks.append((first, command.line, closing))
        elif self._blocks:
            if self._blocks[-1][2] in (first, command.end):
                self._close(command.line)
        elif before in ("|", "|&"):
            self._tail.append(command)
        elif before == "||":
            if first not in _SILENT:
                self._leave_out(command, "it is for a failure of the command before it")
        elif words and not self._prepares(command, first):
            if self._run is not None:
                self._leave_out(self._run, "only the last command becomes the run")
            self._run, self._tail = command, []

    def _close(self, line: int) -> None:
        word, begin, _ = self._blocks.pop()
        if not self._blocks:
            self._block = (word, begin, line)
            self._script.notes.append(f"lines {begin}-{line} ({shown(word)} ...) were not taken over")

    def _prepares(self, command: Command, first: str) -> bool:
        """Return whether a command only prepares the run; take over what it prepares."""
        words = [word.plain for word in command.words]
        if all(word.assigned for word in command.words):
            self._assign(command, is_exported=False)
        elif first == "export":
            self._assign(command, is_exported=True)
        elif first in ("module", "ml"):
            self._modules(command, words)
        elif first in ("cd", "pushd"):
            self._change_directory(command)
        elif _activates(words):
            self._activate(command)
        elif first in ("source", ".", "eval", "alias", "unset", "mkdir", "rm", "cp", "mv", "ln", "rsync", "tar"):
            self._leave_out(command, "do this before the run is submitted, if the program needs it")
        else:
            return first in _SILENT and not (first == "env" and len(words) > 1)
        return True

    def _activate(self, command: Command) -> None:
        line = command.source
        if "$" in line:
            with suppress(NotConstant):  # a variable of the shell's, which the line finds in the job
                line = shlex.join(word for each in command.words for word in each.expanded(self._constants))
        before = self._script.resources.get("activate")
        self._script.resources["activate"] = f"{before} && {line}" if before else line

    def _assign(self, command: Command, *, is_exported: bool) -> None:
        for word in command.words[1 if is_exported else 0 :]:
            if (found := word.assigned) is None:
                if is_exported and (value := self._constants.get(word.plain)) is not None:
                    self._script.environment[word.plain] = value
                continue
            name, assigned = found
            try:
                self._constants[name] = "".join(assigned.expanded(self._constants))
            except NotConstant as error:
                self._constants.pop(name, None)
                if is_exported and not (name in SET_BY_LVJOBS and self._script.tasks.are_several):
                    why = f"only a shell knows {error}; write the value under [train.environment]"
                    self._script.notes.append(f"line {command.line}: not taken over: {name}: {why}")
                continue
            if is_exported:
                self._script.environment[name] = self._constants[name]

    def _modules(self, command: Command, words: Sequence[str]) -> None:
        names = list(words[1:])
        if words[0] == "module":
            verb = names.pop(0) if names else ""
            if verb not in ("load", "add"):
                if verb not in ("list", "purge", "avail"):
                    self._leave_out(command, "load what it offers with modules under [resources]")
                return
        modules = self._script.resources.setdefault("modules", [])
        try:
            wanted = [
                word for each in command.words[len(words) - len(names) :] for word in each.expanded(self._constants)
            ]
        except NotConstant as error:
            self._leave_out(command, f"only a shell knows {error}; write modules under [resources]")
            return
        modules += [name for name in wanted if not name.startswith("-")]

    def _change_directory(self, command: Command) -> None:
        try:
            places = [word for each in command.words[1:] for word in each.expanded({**self._constants, **_HERE_IS})]
        except NotConstant as error:
            self._leave_out(command, f"only a shell knows {error}; write directory = ... under [train]")
            return
        if len(places) == 1 and places[0] not in (".", "./"):
            base = self._script.directory
            self._script.directory = f"{base}/{places[0]}" if base and places[0][0] != "/" else places[0]

    def _leave_out(self, command: Command, why: str) -> None:
        self._script.notes.append(f"line {command.line}: not taken over: {shown(command.source)}: {why}")

    def finish(self) -> BatchScript:
        """Return the script with its run.

        Raises:
            UsageError: there is none, or it needs a shell.
        """
        if self._blocks:
            word, line, _ = self._blocks[-1]
            raise UsageError(f"line {line}: {shown(word)} is not closed; close it, and type the command again")
        run, block = self._run, self._block
        if block and (run is None or (block[1] > run.line and block[0] != "if")):
            raise UsageError(
                f"lines {block[1]}-{block[2]}: the last command is inside {shown(block[0])} ...; nothing was written: "
                f"make the whole script the run: {remedies.INIT_SCRIPT}"
            )
        if run is None:
            raise UsageError(
                f"the script has no command that trains; nothing was written: name the program: {remedies.INIT_SCRIPT}"
            )
        self._check_shell(run)
        words = [word for each in run.words for word in self._expanded(each)]
        set_program(self._script, words, run.line)
        for word in [*self._script.command, *self._script.environment.values()]:
            if unknown := word.partition(UNKNOWN)[2]:
                raise UsageError(
                    f"line {run.line}: the command has {unknown}, which only a shell knows; nothing was written: write "
                    f"its value there, or make the whole script the run: {remedies.INIT_SCRIPT}"
                )
        return self._script

    def _expanded(self, word: Word) -> list[str]:
        """Return the words that a shell makes of a word of the run; what is unknown may be left out later."""
        try:
            return word.expanded(self._constants)
        except NotConstant as error:
            return [f"{word.plain}{UNKNOWN}{error}"]

    def _check_shell(self, run: Command) -> None:
        """Refuse what only a shell can do with the run; leave out where its output goes.

        Raises:
            UsageError: it reads a file, or another program, or has several at the same time.
        """
        wrong = next((each for each in run.redirections if "<" in each), "")
        wrong = wrong or ("&" if run.end == "&" else "")
        wrong = wrong or next((shown(each.source) for each in self._tail if each.words[0].plain != "tee"), "")
        if wrong:
            raise UsageError(
                f"line {run.line}: the command has {shown(wrong)!r}, which needs a shell; nothing was written: make "
                f"the whole script the run: {remedies.INIT_SCRIPT}"
            )
        left = [*run.redirections, *(f"| {each.source}" for each in self._tail)]
        if left:
            self._script.notes.append(
                f"line {run.line}: left out: {shown(' '.join(left))}: lvjobs keeps what the program prints under logs/"
            )


_HERE_IS = dict.fromkeys(_HERE, ".")


def _activates(words: Sequence[str]) -> bool:
    """Return whether a command activates a Python environment."""
    if words[0] in ("source", ".") and len(words) > 1:
        return bool(re.search(r"(?:\A|/)(?:activate|conda\.sh)\Z", words[1]))
    is_hook = words[0] == "eval" and "hook" in " ".join(words)
    return is_hook or (words[0] in ("conda", "mamba", "micromamba") and words[1:2] == ["activate"])
