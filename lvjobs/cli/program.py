"""A program at the end of a command line, after `--`, and the options for it."""

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, get_args

import click

from lvjobs.cli.help import PROGRAM, Command, SectionOption
from lvjobs.errors import UsageError
from lvjobs.study.program.container import Engine

_WORDS = "lvjobs.command"
_OPTIONS = ("preset", "checkpoint", "resume", "progress", "from_checkpoint", "flops")

program_option = partial(click.option, cls=SectionOption, section=PROGRAM)
"""Like `click.option`, for the section of programs in the help."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class WithProgram(Command):
    """A command whose words after `--` are a program and its arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words after the first `--`, and parse those before it."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_WORDS] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


def typed_program() -> list[str] | None:
    """Return the words after `--` of the running command (a `WithProgram`); None if no `--` was typed."""
    words: list[str] | None = click.get_current_context().meta.get(_WORDS)
    return words


def container_options(command: _Command) -> _Command:
    """Add --container and --engine to a command (see `typed_container`)."""
    engines = ", ".join(get_args(Engine))
    command = program_option("--engine", help=f"container engine: {engines}.")(command)
    return program_option("--container", help="container image.")(command)


def typed_container(options: dict[str, Any]) -> dict[str, Any]:
    """Take --container and --engine from a command's options; return the key of [train] that they give.

    Raises:
        UsageError: One of the two is missing.
    """
    image, engine = options.pop("container"), options.pop("engine")
    if image is None and engine is None:
        return {}
    if image is None or engine is None:
        missing = "--container IMAGE" if image is None else f"--engine {get_args(Engine)[0]}"
        raise UsageError(f"a container needs an image and an engine; add {missing}")
    return {"container": {"image": image, "engine": engine}}


def program_options(command: _Command) -> _Command:
    """Add the options for a program to a command (see `typed_settings`)."""
    command = container_options(command)
    command = program_option("--flops", help="FLOPs per step, such as 6e9.")(command)
    command = program_option("--from-checkpoint", help="existing checkpoint to start from.")(command)
    command = program_option(
        "--progress", help="regular expression that matches its progress lines, with (?P<step>\\d+)."
    )(command)
    command = program_option("--resume", help="arguments added when a checkpoint exists.")(command)
    command = program_option(
        "--checkpoint", help="path of its checkpoints, such as {out}/checkpoint-{step} or {out}/ckpt.pt."
    )(command)
    return program_option(
        "--preset", help="settings for a known library: huggingface, lightning, accelerate, torchtitan, ..."
    )(command)


def typed_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options for a program from a command's; return its keys of [train]: these, and the words after `--`.

    Raises:
        UsageError: There are such options, and no program.
    """
    command = typed_program()
    given = {key: options.pop(key) for key in _OPTIONS}
    given = {key: value for key, value in given.items() if value is not None} | typed_container(options)
    if command is None:
        if given:
            raise UsageError(
                f"--{min(given).replace('_', '-')} is for programs: write the program at the end, after --"
            )
        return {}
    if not command:
        raise UsageError("no program follows --; write it and its arguments there: -- python train.py")
    if "resume" in given:
        given["resume"] = shlex.split(given["resume"])
    return {"command": command, **given}
