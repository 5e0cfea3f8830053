"""`lvjobs lab`: a private Slurm cluster on this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import Remembering, print_json, repeated
from lvjobs.cli.help import Group
from lvjobs.lab import Lab, LabConfig, LabStatus, install_packages, missing_packages, require_packages


def _lab_in(_context: click.Context, _option: click.Parameter, directory: Path | None) -> Lab:
    """Return the lab of the directory that was typed."""
    return Lab(directory)


_lab = click.option(
    "--dir",
    "chosen",
    type=click.Path(path_type=Path),
    callback=_lab_in,
    help="Directory of the lab.  [default: $LVJOBS_LAB, else ~/.cache/lvjobs/lab]",
)


@click.group(cls=Group)
def lab() -> None:
    """Start and stop a private Slurm cluster on this machine, to test a study before using a real one."""


@lab.command(cls=Remembering)
@_lab
@click.option("--nodes", type=int, help="Nodes, all on this machine.  [default: 4]")
@click.option("--gpus", type=int, help="Simulated GPUs per node.  [default: 4]")
@click.option("--cpus", type=int, help="Simulated cores per node.  [default: 32]")
@click.option("--accounting/--no-accounting", default=None, help="Run slurmdbd and MariaDB, for sacct and limits.")
@click.option("--grace", type=int, help="Seconds between a preemption's signal and its kill.  [default: 10]")
@click.option(
    "--user-signal/--no-user-signal", default=None, help="Send a preempted job its own --signal instead of SIGTERM."
)
@click.option("--preempt-mode", type=click.Choice(["requeue", "cancel"]), help="What Slurm does with a preempted job.")
@click.option(
    "--preempt-by", type=click.Choice(["partition", "qos"]), help="What decides priority; qos needs accounting."
)
@click.option("--hold", type=int, help="Seconds for which Slurm holds a requeued job.  [default: 21]")
@click.option("--port-base", type=int, help="First port.  [default: a free range]")
@click.option(
    "--message-timeout", type=int, help="Seconds until a command gives up on a silent controller.  [default: 10]"
)
@click.option("--install", is_flag=True, help="Install missing packages with apt (as root).")
def up(chosen: Lab, install: bool, **given: Any) -> None:
    """Start the cluster. Settings that are not given stay as they were the last time."""
    config = replace(chosen.config or LabConfig(), **{key: value for key, value in given.items() if value is not None})
    options = repeated(but=("--install",))
    if install:
        install_packages(missing_packages(accounting=config.accounting), options)
    require_packages(accounting=config.accounting, options=options)
    _show(chosen, chosen.up(config))
    click.echo(f"to use it, type: {remedies.LAB_ENVIRONMENT(*chosen.layout.options)}")


@lab.command()
@_lab
@click.option("--purge", is_flag=True, help="Also delete the lab's directory, with its queue and accounts.")
def down(chosen: Lab, purge: bool) -> None:
    """Stop the cluster and its jobs, like a power cut; the next up restores the queue."""
    chosen.down(purge=purge)
    click.echo(f"lab in {chosen.directory} is down{' and deleted' if purge else ''}")


@lab.command()
@_lab
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(chosen: Lab, as_json: bool) -> None:
    """Show the lab's daemons, nodes and jobs."""
    found = chosen.status()
    if as_json:
        print_json(found.to_dict())
    else:
        _show(chosen, found)


@lab.command()
@_lab
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Seconds for which the urgent job runs.")
@click.argument("job", metavar="RUN_OR_JOBID")
def preempt(chosen: Lab, seconds: float, job: str) -> None:
    """Preempt a job: an urgent job takes its whole node for a few seconds."""
    done = chosen.preempt(job, seconds=seconds)
    click.echo(f"urgent job {done.urgent_job_id} takes node {done.node} from job {done.job_id} for {seconds:g} s")


@lab.command()
@_lab
@click.argument("node")
def fail(chosen: Lab, node: str) -> None:
    """Let a node fail: its slurmd is killed, but the processes of its jobs continue."""
    chosen.fail(node)
    click.echo(
        f"node {node} is down; to bring it back, type: {remedies.LAB_RESTORE(*chosen.layout.options, node=node)}"
    )


@lab.command()
@_lab
@click.argument("node")
def restore(chosen: Lab, node: str) -> None:
    """Bring a failed node back."""
    chosen.restore(node)
    click.echo(f"node {node} is back")


@lab.command()
@_lab
def freeze(chosen: Lab) -> None:
    """Freeze the controller: every Slurm command times out."""
    chosen.freeze()
    click.echo(f"slurmctld is frozen; to continue it, type: {remedies.LAB_THAW(*chosen.layout.options)}")


@lab.command()
@_lab
def thaw(chosen: Lab) -> None:
    """Let a frozen controller continue."""
    chosen.thaw()
    click.echo("slurmctld continues")


@lab.command()
@_lab
def env(chosen: Lab) -> None:
    """Print what a shell exports to use the lab: eval "$(lvjobs lab env)"."""
    click.echo(chosen.exports(), nl=False)


def _show(chosen: Lab, found: LabStatus) -> None:
    """Print the lab's status as text."""
    options = chosen.layout.options
    thaw = f"; type: {remedies.LAB_THAW(*options)}" if found.controller == "frozen" else ""
    click.echo(f"lab in {found.directory}: controller {found.controller}{thaw}")
    if found.config is None:
        click.echo(f"no lab here yet; type: {remedies.LAB_UP(*options)}")
        return
    defaults = vars(LabConfig())
    changed = [f"{key}={value}" for key, value in vars(found.config).items() if value != defaults[key]]
    dead = [name for name, pid in found.daemons.items() if pid is None]
    alive = f"{len(found.daemons) - len(dead)} of {len(found.daemons)}"
    nodes = [f"{node.name} {node.state or 'unknown'}" for node in found.nodes]
    jobs = [f"{count} {state}" for state, count in sorted(found.jobs.items())]
    click.echo(f"  settings  {', '.join(changed) or 'default'}; ports from {found.port_base}")
    click.echo(
        f"  daemons   {alive}" + (f"; dead: {', '.join(dead)}; type: {remedies.LAB_UP(*options)}" if dead else "")
    )
    click.echo(f"  nodes     {', '.join(nodes)}")
    click.echo(f"  jobs      {', '.join(jobs) or 'none'}")
    if not found.loopback_only:
        click.echo(
            "  network   this host's name does not mean a loopback address, so Slurm listens on every address, "
            "guarded by the lab's own key"
        )
