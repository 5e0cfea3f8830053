"""A program at the end of a command line, after `--`."""

import click

_WORDS = "lvjobs.command"


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
