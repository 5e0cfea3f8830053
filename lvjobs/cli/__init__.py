"""The command line: parse, call, print. A command is imported when it is used, so that `--help` stays quick."""

import atexit
import errno
import gc
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from lvjobs import __version__, remedies
from lvjobs.cli.help import MainGroup
from lvjobs.errors import LvjobsError
from lvjobs.foreign import cleaned
from lvjobs.processes import keep_interrupts, submitted

_NEW_OBJECTS = 200_000
"""The new objects before the next garbage collection: a command makes modules and rows, which are rarely garbage."""

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})

_GROUPS = {
    "Set up": {
        "init": ("lvjobs.cli.init", "Write a commented study.toml for this cluster."),
        "doctor": ("lvjobs.cli.doctor", "Check this machine and cluster, and suggest fixes."),
        "data": ("lvjobs.cli.inputs", "Make or check input data."),
        "model": ("lvjobs.cli.inputs", "Fetch, check or convert base models."),
        "lab": ("lvjobs.cli.lab", "Start and stop a private Slurm cluster on this machine."),
        "completion": ("lvjobs.cli.completion", "Print a shell completion script."),
    },
    "Run": {
        "submit": ("lvjobs.cli.submit", "Submit a run."),
        "sweep": ("lvjobs.cli.sweep", "Submit a stage, or the whole study."),
        "resume": ("lvjobs.cli.updates", "Update the study now; resume held runs."),
        "cancel": ("lvjobs.cli.updates", "Cancel runs."),
        "retry": ("lvjobs.cli.updates", "Submit cancelled or held runs again."),
        "watch": ("lvjobs.cli.updates", "Keep the study going until every run is finished."),
        "driver": ("lvjobs.cli.driver", "Manage the background job that keeps the study going."),
        "rehearse": ("lvjobs.cli.rehearse", "Test recovery: a short run with injected preemptions and crashes."),
    },
    "Look": {
        "status": ("lvjobs.cli.status", "Show the state of all runs."),
        "top": ("lvjobs.cli.status", "Show all runs live, on the whole screen, with keys to act on them."),
        "show": ("lvjobs.cli.inspect", "Show all that is known of a run: settings, files, attempts, cost."),
        "why": ("lvjobs.cli.inspect", "Explain a run's state and suggest the next step."),
        "logs": ("lvjobs.cli.logs", "Show the log of a run's job."),
        "queue": ("lvjobs.cli.inspect", "Show why jobs wait, and which changes start them sooner."),
    },
    "Cost": {
        "plan": ("lvjobs.cli.plan", "Show what stages or a run cost, whether that fits, and plans that do."),
        "budget": ("lvjobs.cli.costs", "Show the FLOPs spent and left."),
        "flops": ("lvjobs.cli.flops", "Show the FLOPs of a training step, by convention."),
    },
    "Results": {
        "evaluate": ("lvjobs.cli.evaluate", "Forecast held-out series, and score the forecasts."),
        "forecast": ("lvjobs.cli.evaluate", "Forecast one series, and draw it beside the baselines."),
        "figures": ("lvjobs.cli.publish", "Draw all figures that the study has data for."),
        "report": ("lvjobs.cli.publish", "Write the study's report: one HTML file, and its tables."),
        "pull": ("lvjobs.cli.pull", "Copy the report, figures and adapters of a study from a login node."),
        "export": ("lvjobs.cli.publish", "Write runs and metrics as CSV, JSON lines and TensorBoard files."),
    },
    "Upkeep": {
        "ledger": ("lvjobs.cli.ledger", "Check, copy, rebuild or export runs.db."),
        "study": ("lvjobs.cli.ledger", "Record that a study was moved or copied."),
        "archive": ("lvjobs.cli.archive", "Pack the files of finished runs into one file each."),
        "tag": ("lvjobs.cli.labels", "Give runs a tag, by which commands choose them."),
        "note": ("lvjobs.cli.labels", "Add a note to a run's history."),
        "log": ("lvjobs.cli.log", "Report a step and its metrics from inside a run."),
    },
}
_REMOTE = re.compile(r"^\s*(host\s*=|remote\b)", re.MULTILINE)
"""A key of [remote] in study.toml, however it is written."""
_WITH_HOST = frozenset({"pull"})
"""Commands that run here and talk to the host themselves."""
_OLDER_NAMES = {"estimate": ("lvjobs.cli.plan", "Older name of plan.")}
"""Commands that still work, and are not listed in the help."""
_COMMANDS = {name: found for commands in _GROUPS.values() for name, found in commands.items()} | _OLDER_NAMES


class _Lazy(MainGroup):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the groups of commands to the help, without importing any of them."""
        for group, commands in _GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(f"{name:10}", text) for name, (_, text) in commands.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lvjobs")
@click.option("--host", metavar="LOGIN", help="Run the command over ssh on this login node (docs/remote.md).")
@click.pass_context
def cli(context: click.Context, host: str | None) -> None:
    """Run a fine-tuning study on a Slurm cluster that preempts, times out and fails, under a FLOP budget."""
    if isinstance(context.obj, dict):
        context.obj["host"] = host
    if host is not None and context.invoked_subcommand not in _WITH_HOST:
        raise click.UsageError("--host comes first, and needs a command: lvjobs --host me@login status")


def _call(known: dict[str, Any]) -> None:
    """Run the typed command, here or on a login node."""
    from lvjobs.api.waiting import announce_with
    from lvjobs.cli.spinner import spinner

    announce_with(spinner)
    words = sys.argv[1:]
    if (words and words[0].split("=")[0] == "--host") or _may_be_remote():
        from lvjobs.cli.remote import login_for, run_remote

        login, rest = login_for(words)
        if login is not None and rest[0] not in _WITH_HOST:
            sys.exit(run_remote(login, rest))
    cli(standalone_mode=False, obj=known)


def _may_be_remote() -> bool:
    """Return whether the study here may be on another machine. Each command asks it, so nothing is parsed."""
    from lvjobs.study.found import study_above

    try:
        root = study_above(Path.cwd())
        return root is not None and bool(_REMOTE.search((root / "study.toml").read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):  # the command itself says so
        return False


def main() -> None:
    """Run the `lvjobs` command. Print an expected error on one line, and exit with its code."""
    known: dict[str, Any] = {}  # see `lvjobs.cli.common.study_option`
    submitted.clear()
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)  # avoids a last collection at exit, a tenth of the time of `status`
    try:
        with keep_interrupts():
            _call(known)
    except LvjobsError as error:
        click.echo(f"lvjobs: {cleaned(str(error))}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        place = error.filename or known.get("root") or "a file"
        done = "submitted jobs continue" if submitted.is_set() else "this command submitted nothing"
        click.echo(
            f"lvjobs: {place} cannot be written or read ({error.strerror}); {done}; check that the disk is mounted and "
            "has space, then run the command again",
            err=True,
        )
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        from lvjobs.files import expand_home
        from lvjobs.study.found import options_for

        where = options_for(expand_home(known["root"]).resolve()) if "root" in known else ()
        status = remedies.STATUS(*where)
        done = "submitted jobs continue" if submitted.is_set() else "this command submitted nothing"
        click.echo(f"lvjobs: interrupted; {done}; type: {status}", err=True)
        sys.exit(130)
