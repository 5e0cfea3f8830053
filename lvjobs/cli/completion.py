"""`lvjobs completion`: the script that completes commands, options and runs by the Tab key."""

import click
from click.shell_completion import get_completion_class

from lvjobs.cli.help import Command

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and runs in SHELL; add it to the shell's start-up file."""
    made = get_completion_class(shell)
    assert made is not None  # click has all of `_SHELLS`
    click.echo(made(ctx.find_root().command, {}, "lvjobs", "_LVJOBS_COMPLETE").source())
