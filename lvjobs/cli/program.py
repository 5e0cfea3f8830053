"""A program at the end of a command line, after `--`, and the options for its container."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from lvjobs.errors import UsageError
from lvjobs.study.program.container import Engine

_WORDS = "lvjobs.command"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class WithProgram(click.Command):
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
    command = click.option("--engine", help=f"Of a program: what starts its container: {engines}.")(command)
    return click.option("--container", help="Of a program: the image of the container in which it runs.")(command)


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
