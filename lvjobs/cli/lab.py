"""`lvjobs lab`: a private Slurm cluster on this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import Remembering, print_json, repeated
from lvjobs.lab import Lab, LabConfig, LabStatus, install_packages, missing_packages, require_packages


def _lab_in(_context: click.Context, _option: click.Parameter, directory: Path | None) -> Lab:
    """Return the lab of the directory that was typed."""
    return Lab(directory)


_lab = click.option(
    "--dir",
    "chosen",
    type=click.Path(path_type=Path),
    callback=_lab_in,
    help="Where the lab lives.  [default: $LVJOBS_LAB, else ~/.cache/lvjobs/lab]",
)


@click.group()
def lab() -> None:
    """A private Slurm cluster on this machine, to try a study on before a real one is asked.

    Bring it up, then: eval "$(lvjobs lab env)" && sinfo
    """


@lab.command(cls=Remembering)
@_lab
@click.option("--nodes", type=int, help="Nodes, all on this machine.  [default: 4]")
@click.option("--gpus", type=int, help="Pretended GPUs a node.  [default: 4]")
@click.option("--cpus", type=int, help="Pretended cores a node.  [default: 32]")
@click.option("--accounting/--no-accounting", default=None, help="With slurmdbd and MariaDB, for sacct and limits.")
@click.option("--grace", type=int, help="Seconds from a preemption's signal to its kill.  [default: 10]")
@click.option(
    "--user-signal/--no-user-signal", default=None, help="A preempted job gets its own --signal, not SIGTERM."
)
@click.option("--preempt-mode", type=click.Choice(["requeue", "cancel"]), help="What becomes of a preempted job.")
@click.option("--preempt-by", type=click.Choice(["partition", "qos"]), help="What outranks; qos needs accounting.")
@click.option("--hold", type=int, help="Seconds that Slurm holds a requeued job back.  [default: 21]")
@click.option("--port-base", type=int, help="First port.  [default: a free range]")
@click.option(
    "--message-timeout", type=int, help="Seconds until a command gives a silent controller up.  [default: 10]"
)
@click.option("--install", is_flag=True, help="As root: install with apt what is missing.")
def up(chosen: Lab, install: bool, **given: Any) -> None:
    """Bring the cluster up; what is not given stays as it was the last time."""
    config = replace(chosen.config or LabConfig(), **{key: value for key, value in given.items() if value is not None})
    options = repeated(but=("--install",))
    if install:
        install_packages(missing_packages(accounting=config.accounting), options)
    require_packages(accounting=config.accounting, options=options)
    _show(chosen, chosen.up(config))
    click.echo(f"to use it, type: {remedies.LAB_ENVIRONMENT(*chosen.layout.options)}")


@lab.command()
@_lab
@click.option("--purge", is_flag=True, help="Forget the queue and the accounts too; delete the directory.")
def down(chosen: Lab, purge: bool) -> None:
    """Stop the cluster and its jobs, as a power cut would; the queue is there again after the next up."""
    chosen.down(purge=purge)
    click.echo(f"lab in {chosen.directory} is down{' and deleted' if purge else ''}")


@lab.command()
@_lab
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(chosen: Lab, as_json: bool) -> None:
    """Say what runs."""
    found = chosen.status()
    if as_json:
        print_json(found.to_dict())
    else:
        _show(chosen, found)


@lab.command()
@_lab
@click.option("--seconds", type=float, default=3.0, show_default=True, help="How long the urgent job stays.")
@click.argument("job", metavar="RUN_OR_JOBID")
def preempt(chosen: Lab, seconds: float, job: str) -> None:
    """Force a job off its node: an urgent one takes the whole of it for a few seconds."""
    done = chosen.preempt(job, seconds=seconds)
    click.echo(f"urgent job {done.urgent_job_id} takes node {done.node} from job {done.job_id} for {seconds:g} s")


@lab.command()
@_lab
@click.argument("node")
def fail(chosen: Lab, node: str) -> None:
    """Lose a node: its slurmd dies, and the processes of its jobs live on."""
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
    """Make the controller silent: every Slurm command now times out."""
    chosen.freeze()
    click.echo(f"slurmctld is frozen; to let it go on, type: {remedies.LAB_THAW(*chosen.layout.options)}")


@lab.command()
@_lab
def thaw(chosen: Lab) -> None:
    """Let a frozen controller go on."""
    chosen.thaw()
    click.echo("slurmctld goes on")


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
    click.echo(f"  settings  {', '.join(changed) or 'the defaults'}; ports from {found.port_base}")
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
