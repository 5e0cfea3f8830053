"""`lvjobs completion`: the script that completes commands, options and runs by the Tab key."""

import click
from click.shell_completion import get_completion_class

from lvjobs.errors import UsageError

_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/lvjobs.fish"}


@click.command()
@click.argument("shell", type=click.Choice(list(_FILES)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes lvjobs' commands, options and runs in SHELL; put it into the shell's start-up file.

    For bash: lvjobs completion bash >> ~/.bashrc
    """
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"click knows nothing of {shell}; choose from {', '.join(_FILES)}")
    click.echo(made(ctx.find_root().command, {}, "lvjobs", "_LVJOBS_COMPLETE").source())
