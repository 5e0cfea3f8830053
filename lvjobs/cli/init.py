"""`lvjobs init`."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from lvjobs import remedies
from lvjobs.api.settings import create
from lvjobs.cli.common import new_study_option, print_lines
from lvjobs.cli.program import WithProgram, container_options, program_option, typed_container, typed_program
from lvjobs.cli.site import Site, choose_site
from lvjobs.cluster.backends import backend_of, is_elsewhere
from lvjobs.cluster.protocol import ClusterError
from lvjobs.control import backends
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.foreign import cleaned
from lvjobs.ledger import storage
from lvjobs.report.terminal.plain_lines import site_lines
from lvjobs.study.config import StudyContext, load_study
from lvjobs.study.found import study_above
from lvjobs.study.presets import STUDIES
from lvjobs.study.program.command_line import BatchScript, set_program, split_command
from lvjobs.study.program.presets import PresetName

_OF_A_PROGRAM = ("checkpoint", "resume", "progress", "flops")


@click.command(cls=WithProgram, options_metavar="[OPTIONS]")
@new_study_option
@click.option("--profile", help="local, lab, generic, a site's, or a file (default: local, unless Slurm answers here).")
@click.option("--local", is_flag=True, help="Train on this machine, although Slurm answers here.")
@click.option("--yes", is_flag=True, help="Take the proposed profile, account and partition without asking.")
@click.option("--account", help="Slurm account to charge.")
@click.option(
    "--preset",
    type=click.Choice([*sorted(STUDIES), *get_args(PresetName)]),
    help="The stages, and what they train: published, published-fits (its parts within 1e17 FLOPs), five-steps (the "
    "same for forecasts of 5 steps) or study-tiny (for a laptop; default on local and lab, else published); or a "
    "program's library (default: as its source shows).",
)
@click.option("--command", "typed", metavar="TEXT", help="The program's command line; or write it after --.")
@click.option(
    "--from",
    "script",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Batch script: its last command is the program, its #SBATCH lines the resources.",
)
@program_option("--checkpoint", help="path of its checkpoints, such as {out}/checkpoint-{step} or {out}/ckpt.pt.")
@program_option("--resume", help="arguments added when a checkpoint exists.")
@program_option("--progress", help="regular expression that matches its progress lines, with (?P<step>\\d+).")
@program_option("--flops", help="FLOPs per step: 6e9, or 124e6 x 491520 (parameters, tokens).")
@container_options
@click.option("--force", is_flag=True, help="Overwrite an existing study.toml.")
def init(
    root: Path,
    profile: str | None,
    local: bool,
    yes: bool,
    account: str | None,
    preset: str | None,
    typed: str | None,
    script: Path | None,
    force: bool,
    **options: str | None,
) -> None:
    """Write a commented study.toml, with every key and its default, for the bundled forecasting or for a program.

    \b
    lvjobs init                                              the forecasting that comes with lvjobs
    lvjobs init --command "python train.py --lr 1e-4"        a program (docs/programs.md)
    lvjobs init --from job.sbatch                            the program of a batch script, and its resources

    For a program, prints the guessed settings and the missing ones; in a terminal, prompts for these. Executes nothing.
    """  # noqa: D301 - click reads the backspace
    given = _given(preset, options)
    program = _program(typed, script)
    if program is None:
        if given or preset in get_args(PresetName):
            name = min(given) if given else f"preset {preset}"
            raise UsageError(f"--{name} is for programs; add --command, --from, or a program after --")
        _refuse_existing(root, force=force)
        site = choose_site(profile, account, local=local, yes=yes)
        path = create(root, site.profile, site.resources, preset, force=force)
        study = load_study(root)
        click.echo(f"{path}: written. Edit it, then see the cost of its stages: {remedies.SWEEP_PLAN}")
    else:
        if preset in STUDIES:
            raise UsageError(
                f"--preset {preset} is for the bundled forecasting; leave it out, or leave the program out"
            )
        _refuse_existing(root, force=force)
        site = choose_site(_profile(profile, script), account, local=local, yes=yes)
        study = _init_program(root, site, program, given, force=force)
    _print_concerns(study, site.profile)


def _refuse_existing(root: Path, *, force: bool) -> None:
    """Refuse a study.toml that exists, before anything is asked (UsageError)."""
    if (expand_home(root) / "study.toml").exists() and not force:
        raise UsageError(f"{root / 'study.toml'} exists; edit it, or overwrite it with --force")


def _init_program(root: Path, site: Site, program: BatchScript, given: dict[str, Any], *, force: bool) -> StudyContext:
    """Write the study of a program, and print what was guessed and what remains to be filled in."""
    from lvjobs.api.program_study import create_program, plan_program

    ask = _ask if sys.stdin.isatty() else None
    place = expand_home(root)
    path, plan = create_program(
        place, site.profile, site.resources, lambda: plan_program(place, program, given, ask), force=force
    )
    study = load_study(root)
    click.echo(f"{path}: written")
    lines = [f"guessed: {line}" for line in plan.said]
    lines += [f"note: {line}" for line in plan.notes]
    lines += [f"to fill in: {key}: {why}" for key, why in plan.missing.items()]
    print_lines(map(cleaned, lines))
    dry_run = shlex.join(["lvjobs", "submit", "run", *study.where, "--dry-run"])
    click.echo(f"{'Fill in what is missing; then see' if plan.missing else 'See'} the script and its cost: {dry_run}")
    return study


def _given(preset: str | None, options: dict[str, str | None]) -> dict[str, Any]:
    """Return the keys of [train] that the options give."""
    from lvjobs.api.program_questions import flops_of

    given: dict[str, Any] = {key: options[key] for key in _OF_A_PROGRAM if options[key] is not None}
    if "resume" in given:
        given["resume"] = split_command(given["resume"])
    if "flops" in given:
        given["flops"] = flops_of(given["flops"])
    given |= typed_container(options)
    return given | ({"preset": preset} if preset in get_args(PresetName) else {})


def _program(typed: str | None, script: Path | None) -> BatchScript | None:
    """Return the program that is named by --command, by --from or after `--`; None if there is none.

    Raises:
        UsageError: it is named twice, or cannot be read.
    """
    from lvjobs.api.program_study import read_batch_file

    words = typed_program()
    if sum(each is not None for each in (typed, script, words)) > 1:
        raise UsageError("the program is named twice; name it once: with --command, with --from, or after --")
    if script is not None:
        return read_batch_file(script)
    if words is None and typed is None:
        return None
    command = words if words is not None else split_command(typed or "")
    if not command:
        raise UsageError('no program is given; write it and its arguments: --command "python train.py"')
    program = BatchScript()
    set_program(program, command)
    return program


def _profile(profile: str | None, script: Path | None) -> str | None:
    """Return the profile: that of any Slurm cluster for a batch script, unless one was typed."""
    if script is None or profile is not None:
        return profile
    click.echo(
        'guessed: profile = "generic": works on any Slurm cluster; for a site profile use --profile (docs/profiles.md)'
    )
    return "generic"


def _ask(question: str, value_of: Callable[[str], Any]) -> Any:
    """Ask a question, and ask again as long as the answer cannot be used."""
    from lvjobs.api.program_questions import LATER

    def checked(answer: str) -> Any:
        try:
            return value_of(answer)
        except UsageError as error:
            raise click.UsageError(cleaned(str(error))) from None

    return click.prompt(question, default=LATER, value_proc=checked)


def _print_concerns(study: StudyContext, profile: str) -> None:
    """Print what is known about the storage, and about the site where it answers."""
    for concern in storage.concerns(storage.storage_of(study.root), on_slurm=is_elsewhere(profile), where=study.where):
        click.echo(f"note: storage: {concern.what}; {concern.remedy}", err=True)
    if (outer := study_above(study.root.parent)) is not None:
        click.echo(f"note: this study is inside another one ({outer})", err=True)
    if not backend_of(profile).is_site:
        return
    try:
        site = backends.cluster_for(study, profile).probe()
    except ClusterError as error:
        click.echo(f"note: Slurm did not answer, so the site's settings are unknown ({error})", err=True)
    else:
        print_lines(site_lines(asdict(site), study.where))
