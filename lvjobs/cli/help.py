"""Help texts in sections, with examples, and suggestions for mistyped commands, options and values."""

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import click

from lvjobs.cli.examples import EXAMPLES

RESOURCES, TRAINING, PROGRAM = "Resources", "Training settings", "Programs"
_SECTIONS = ("Options", TRAINING, PROGRAM, RESOURCES)

_COMMANDS = {
    "cost": "estimate",
    "costs": "estimate",
    "continue": "resume",
    "delete": "cancel",
    "eval": "evaluate",
    "explain": "why",
    "kill": "cancel",
    "list": "status",
    "ls": "status",
    "new": "init",
    "predict": "forecast",
    "ps": "status",
    "restart": "resume",
    "rm": "cancel",
    "run": "submit run",
    "sbatch": "submit",
    "scancel": "cancel",
    "squeue": "queue",
    "start": "submit",
    "stop": "cancel",
    "tail": "logs",
    "train": "submit train",
}
"""Commands by the names that other tools have for them."""
_OPTIONS = {
    "--alpha": "--lora-alpha",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--context": "--context-length",
    "--ctx": "--context-length",
    "--dir": "--study",
    "--dryrun": "--dry-run",
    "--epochs": "--steps",
    "--gpu": "--gpus",
    "--job-name": "--name",
    "--lr": "--learning-rate",
    "--max-length": "--context-length",
    "--max-steps": "--steps",
    "--mem": "--memory-mb",
    "--memory": "--memory-mb",
    "--num-gpus": "--gpus",
    "--queue": "--partition",
    "--rank": "--lora-rank",
    "--reason": "--because",
    "--time": "--time-limit",
    "--walltime": "--time-limit",
}
"""Options by the names that other tools have for them."""


class SectionOption(click.Option):
    """An option in a section of the help: `click.option(..., cls=SectionOption, section=RESOURCES)`."""

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """Return the known name that `typed` most likely means, or None."""
    return next(iter(difflib.get_close_matches(typed, list(known), n=1)), None)


class _Helpful(click.Command):
    """A command whose help has sections and examples, and whose errors suggest what was meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words. The error for an unknown option, or for a value that is no choice, has a suggestion."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"No such option: {error.option_name}{self._meant(error.option_name)}", ctx
            ) from None
        except click.BadParameter as error:
            choices = error.param.type.choices if error.param and isinstance(error.param.type, click.Choice) else ()
            typed = str(error).partition("'")[2].partition("'")[0]
            if near := nearest(typed, map(str, choices)):
                meant = f"{error.message.rstrip('.')}. Did you mean {near!r}?"
                raise click.BadParameter(meant, ctx, error.param) from None
            raise

    def _meant(self, typed: str) -> str:
        """Return a hint for an unknown option: the option that was most likely meant; empty if none is near."""
        known = [name for option in self.params for name in (*option.opts, *option.secondary_opts)]
        alias = _OPTIONS.get(typed)
        near = alias if alias in known else nearest(typed, [name for name in known if name.startswith("--")])
        return f". Did you mean {near}?" if near else ""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in sections."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in _SECTIONS}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                sections[getattr(option, "section", _SECTIONS[0])].append(record)
        for name, rows in sections.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        names: list[str] = []
        context: click.Context | None = ctx
        while context is not None and context.parent is not None:
            names.insert(0, context.info_name or "")
            context = context.parent
        if examples := EXAMPLES.get(" ".join(filter(None, names))):
            with formatter.section("Examples"):
                for command, purpose in examples:
                    indent = " " * formatter.current_indent
                    formatter.buffer.append(f"{indent}{command}\n{indent}  {purpose}\n")


class Command(_Helpful):
    """A command of lvjobs."""


class Group(_Helpful, click.Group):
    """A group of commands. The error for an unknown one suggests what was meant."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options and the commands."""
        _Helpful.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words name."""
        typed = args[0]
        if self.get_command(ctx, typed) is None and not typed.startswith("-") and not ctx.resilient_parsing:
            path, hint = ctx.command_path, ""
            if near := self.suggested(args, self.list_commands(ctx)):
                hint = f" Did you mean: {path} {near}"
            raise click.UsageError(f"No such command: {typed}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def suggested(self, args: list[str], known: Collection[str]) -> str | None:
        """Return the command that the words most likely mean, or None."""
        return nearest(args[0], known)


class MainGroup(Group):
    """The group of all commands, which also knows the names that other tools have for them."""

    def suggested(self, args: list[str], known: Collection[str]) -> str | None:
        """Return the command that the words most likely mean, or None."""
        return _COMMANDS.get(args[0]) or super().suggested(args, known)
