"""`lvjobs doctor`."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from lvjobs.api.settings import settle
from lvjobs.cli.common import Remembering, json_option, print_json, repeated, study_option
from lvjobs.cli.settings import overrides, profile_option, resource_options
from lvjobs.doctor.errand import run_errand
from lvjobs.doctor.examine import examine, usual_profile
from lvjobs.doctor.interface import Asked, Diagnosis, error
from lvjobs.doctor.node import check_errand
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import expand_home
from lvjobs.report.terminal.finding_lines import print_findings
from lvjobs.study.config import StudyConfig, StudyContext, load_study
from lvjobs.study.params import TrainingConfig
from lvjobs.study.program.command import CommandConfig

_FOUND_SOMETHING, _INTERRUPTED = 1, 130


@click.command(cls=Remembering)
@study_option
@profile_option
@resource_options
@click.option("--job", "with_job", is_flag=True, help="Also submit a test job of one minute, and check its node.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds after which the test job is cancelled.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.tar.gz",
    help="Write an archive for somebody who helps: findings, versions, ledger, journals, ends of logs; no secrets.",
)
@click.option("--yes", is_flag=True, help="With --bundle: write it without asking.")
@json_option
def doctor(
    root: Path,
    profile: str | None,
    with_job: bool,
    timeout: float,
    bundle: Path | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Check what this study needs of this cluster; without a study, check the machine and the cluster.

    Prints findings, their meaning and the fix. Changes nothing. Exit code 1: a problem has to be fixed.
    """
    asked, findings = _asked(root, profile, options)
    findings += examine(asked, with_job=with_job)
    if bundle is not None:
        _write_bundle(asked, findings, bundle, yes=yes)
        return
    interrupted = False
    if with_job:
        errand = run_errand(asked, partial(click.echo, err=True), timeout=timeout)
        findings += check_errand(errand, asked, timeout=timeout)
        interrupted = errand.interrupted
    is_fine = not any(finding.level == "error" for finding in findings)
    rows = [asdict(finding) for finding in findings]
    if as_json:
        print_json({"schema": 1, "fine": is_fine, "profile": asked.profile, "findings": rows})
    else:
        print_findings(rows)
    if interrupted:
        sys.exit(_INTERRUPTED)
    if not is_fine:
        sys.exit(_FOUND_SOMETHING)


def _write_bundle(asked: Asked, findings: list[Diagnosis], path: Path, *, yes: bool) -> None:
    """List the contents of an archive for a helper, ask in a terminal, and write it.

    Raises:
        UsageError: The file exists, or cannot be written.
    """
    from lvjobs.api.publish import ledger_tables
    from lvjobs.doctor.bundle import contents, write_bundle

    if path.exists():
        raise UsageError(f"{path} exists; name another file")
    tables: Mapping[str, Any] = {}
    if asked.is_study and asked.study.layout.database.exists():
        try:
            tables = ledger_tables(asked.study)
        except LvjobsError as unread:
            findings = [*findings, error("ledger", str(unread), "its rows are not in the archive")]
    files = contents(asked.study, findings, tables)
    for name, text in files.items():
        click.echo(f"{len(text.encode()):>10,} bytes  {name}")
    click.echo("Secrets and your home directory's path are replaced. Data, weights and checkpoints are left out.")
    if sys.stdin.isatty() and not yes and not click.confirm(f"Write {path}?"):
        click.echo("Nothing was written.")
        return
    try:
        size = write_bundle(path, files)
    except OSError as failed:
        raise UsageError(f"{path} cannot be written ({failed.strerror}); name another file") from failed
    click.echo(f"{path}: {len(files)} files, {size:,} bytes. Look through it before you send it.")


def _asked(root: Path, profile: str | None, options: dict[str, Any]) -> tuple[Asked, list[Diagnosis]]:
    """Return what the doctor examines, and the findings so far. An unreadable study.toml is a finding, not an error.

    Raises:
        UsageError: `root` is not a directory, or an option has a value that is not allowed.
    """
    findings = []
    try:
        study = load_study(root)
    except UsageError as broken:
        if not root.is_dir():
            raise
        findings.append(error("study", str(broken), "no command can read it; the checks below use the defaults"))
        study = StudyContext(root=expand_home(root).resolve(), config=StudyConfig())
    layout = study.layout
    is_study = any(path.exists() for path in (layout.config, layout.database, layout.checkpoints))
    if not is_study or findings:
        profile = profile or usual_profile()
    settings, resources, used = settle(study, overrides(options, (), profile))
    training = settings if isinstance(settings, TrainingConfig) else None
    own = (settings.checkpoint_every, settings.threads)
    typed = repeated(but=("--job", "--timeout", "--json", "--bundle", "--yes"))
    container = settings.container if isinstance(settings, CommandConfig) else None
    return Asked(study, is_study and not findings, used, resources, training, *own, typed, container), findings
