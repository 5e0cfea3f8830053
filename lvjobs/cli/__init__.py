"""The command line: parse, call, print. A command is imported when it is used, so that `--help` stays quick."""

import atexit
import errno
import gc
import sys
from importlib import import_module
from pathlib import Path

import click

from lvjobs import __version__, remedies
from lvjobs.errors import LvjobsError
from lvjobs.foreign import cleaned
from lvjobs.processes import keep_interrupts

_NEW_OBJECTS = 200_000
"""The new objects before the next garbage collection: a command makes modules and rows, which are rarely garbage."""

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})

_COMMANDS = {
    "init": ("lvjobs.cli.init", "Write a commented study.toml."),
    "data": ("lvjobs.cli.inputs", "Make or check input data."),
    "model": ("lvjobs.cli.inputs", "Fetch, check or convert base models."),
    "flops": ("lvjobs.cli.flops", "Show what a step costs, by named conventions."),
    "estimate": ("lvjobs.cli.costs", "Show what runs will cost before they are submitted."),
    "submit": ("lvjobs.cli.submit", "Submit a run."),
    "sweep": ("lvjobs.cli.sweep", "Submit every cell of a stage."),
    "evaluate": ("lvjobs.cli.evaluate", "Forecast held-out series, and score the forecasts."),
    "forecast": ("lvjobs.cli.evaluate", "Forecast one series, and draw it beside the baselines."),
    "figures": ("lvjobs.cli.publish", "Draw all figures that the study has data for."),
    "report": ("lvjobs.cli.publish", "Write the study's report: one HTML file, and its tables."),
    "status": ("lvjobs.cli.inspect", "Show how the runs stand."),
    "why": ("lvjobs.cli.inspect", "Say why a run stands as it does, and what to do."),
    "queue": ("lvjobs.cli.inspect", "Show why jobs wait, and what would start sooner."),
    "budget": ("lvjobs.cli.costs", "Show the FLOPs spent and left."),
    "resume": ("lvjobs.cli.updates", "Make a pass and say what it did; take up held runs."),
    "watch": ("lvjobs.cli.updates", "Make pass after pass until nothing is left to do."),
    "driver": ("lvjobs.cli.driver", "Say who makes passes while nobody is there."),
    "cancel": ("lvjobs.cli.updates", "End runs for good."),
    "rehearse": ("lvjobs.cli.rehearse", "Try a shortened run with all that a cluster does to jobs."),
    "doctor": ("lvjobs.cli.doctor", "Check what a study needs of this cluster, and say what to do."),
    "logs": ("lvjobs.cli.inspect", "Show what a run's job printed."),
    "log": ("lvjobs.cli.log", "Report a step and its metrics from inside a run."),
    "export": ("lvjobs.cli.publish", "Write all that is known as CSV, JSON lines and TensorBoard's files."),
    "study": ("lvjobs.cli.ledger", "Say whether a study was moved or copied."),
    "ledger": ("lvjobs.cli.ledger", "Check, copy, rebuild or export runs.db."),
    "lab": ("lvjobs.cli.lab", "A private Slurm cluster on this machine."),
    "completion": ("lvjobs.cli.completion", "Print what completes commands and runs in your shell."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands to the help, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lvjobs")
def cli() -> None:
    """Run a fine-tuning study on a Slurm cluster that preempts, times out and fails, under a FLOP budget."""


def main() -> None:
    """Run the `lvjobs` command. Print an expected error on one line, and exit with its code."""
    known: dict[str, Path] = {}  # see `lvjobs.cli.common.study_option`
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)  # avoids a last collection at exit, a tenth of the time of `status`
    try:
        with keep_interrupts():
            cli(standalone_mode=False, obj=known)
    except LvjobsError as error:
        click.echo(f"lvjobs: {cleaned(str(error))}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        click.echo(
            f"lvjobs: {error.filename or 'a file'} cannot be written or read ({error.strerror}); what was submitted "
            "goes on: see that the disk has room and is there, then type the command again",
            err=True,
        )
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        from lvjobs.files import expand_home
        from lvjobs.study.config import options_for

        where = options_for(expand_home(known["root"]).resolve()) if "root" in known else ()
        status = remedies.STATUS(*where)
        click.echo(f"lvjobs: interrupted; what was submitted goes on; type: {status}", err=True)
        sys.exit(130)
