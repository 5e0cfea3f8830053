"""`lvjobs budget`."""

from pathlib import Path

import click

from lvjobs.cli.common import current_summary, existing_study, json_option, print_json, study_option


@click.command()
@study_option
@json_option
@click.option("--no-pass", is_flag=True, help="Show the last pass's figures; do not look at the cluster.")
def budget(root: Path, as_json: bool, no_pass: bool) -> None:
    """Show the FLOPs spent and left, counted from what the journals show was executed."""
    summary = current_summary(existing_study(root), make_pass=not no_pass)
    if as_json:
        print_json({"schema": summary["schema"], **summary["budget"]})
        return
    from lvjobs.report.tables import print_budget

    print_budget(summary["budget"])
