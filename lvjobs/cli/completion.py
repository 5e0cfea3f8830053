"""`lvjobs completion`: the script that completes commands, options and runs by the Tab key."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes lvjobs' commands, options and runs in SHELL; put it into the shell's start-up file.

    For bash: lvjobs completion bash >> ~/.bashrc
    """
    made = get_completion_class(shell)
    assert made is not None  # click has all of `_SHELLS`
    click.echo(made(ctx.find_root().command, {}, "lvjobs", "_LVJOBS_COMPLETE").source())
