"""`lvjobs completion`: completion of commands, options and the names of runs by the Tab key."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

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


def complete_runs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the matching runs of the study, from the last pass's summary: completion does not ask the cluster."""
    from lvjobs.control.summary_file import read_summary
    from lvjobs.study.layout import StudyLayout

    root = Path(ctx.params.get("root") or ".")
    try:
        runs = (read_summary(StudyLayout(root).summary) or {"runs": []})["runs"]
    except (OSError, ValueError, KeyError):
        return []  # no names to complete, and completion cannot show an error
    return [CompletionItem(run["name"], help=run["state"]) for run in runs if run["name"].startswith(incomplete)]
