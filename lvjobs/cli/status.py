"""`lvjobs status`."""

from pathlib import Path

import click

from lvjobs.cli.common import current_summary, existing_study, json_option, print_json, study_option, tell


@click.command()
@study_option
@json_option
@click.option("--no-pass", is_flag=True, help="Show the last pass's summary; do not look at the cluster.")
def status(root: Path, as_json: bool, no_pass: bool) -> None:
    """Show how the runs stand, after a pass over the study."""
    summary = current_summary(existing_study(root), make_pass=not no_pass)
    if as_json:
        print_json(summary)
        return
    from lvjobs.report.stages import print_stages
    from lvjobs.report.tables import print_status

    tell(summary)
    print_status(summary)
    print_stages(summary.get("stages", ()))
