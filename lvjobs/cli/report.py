"""`lvjobs report`."""

from pathlib import Path

import click

from lvjobs.cli.common import READ_WAIT_SECONDS, existing_study, json_option, print_json, study_option
from lvjobs.cli.figures import material_of


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: report/ in the study.")
@study_option
@json_option
def report(out: Path | None, root: Path, as_json: bool) -> None:
    """Write the study's report: one HTML file that needs no network, and its tables as Markdown and LaTeX.

    It says what the last pass knew, and makes none.
    """
    from lvjobs import __version__
    from lvjobs.control.inspect.report_data import retell
    from lvjobs.control.loop import open_session
    from lvjobs.report.evaluated import evaluated
    from lvjobs.report.page.compose import Facts, compose
    from lvjobs.report.page.provenance import read_origin
    from lvjobs.report.page.write import write_report

    study = existing_study(root)
    with open_session(study, wait=READ_WAIT_SECONDS) as session:
        retold = retell(session)
    runs, layout = retold["runs"], study.layout
    facts = Facts(
        name=study.root.resolve().name,
        declared=layout.config.read_text(encoding="utf-8") if layout.config.exists() else "",
        version=__version__,
        retold=retold,
        material=material_of(study, runs, evaluated(layout, runs)),
        origins={run.name: read_origin(layout, run) for run in runs},
    )
    page, tables = compose(facts)
    index = write_report(page, tables, out if out is not None else study.root / "report")
    if as_json:
        print_json(index)
        return
    for sentence in index["answer"]:
        click.echo(sentence)
    for each in index["missing"]:
        click.echo(f"not drawn: {each['figure']} ({each['why']})")
    click.echo(f"{index['directory']}: {', '.join(index['files'])}")
