"""A directory of figures and its index: what each shows, or why it could not be drawn."""

from pathlib import Path
from typing import Any

from lvjobs.files import write_atomic, write_json
from lvjobs.report.figures.printed import save
from lvjobs.report.figures.study import charts
from lvjobs.report.material import Material
from lvjobs.report.outputs import claim

MARKER = "index.json"
_KIND = {"kind": "lvjobs figures", "schema": 1}


def write_figures(material: Material, directory: Path) -> dict[str, Any]:
    """Draw everything into `directory`, write `index.json` and `index.md`, and return the index.

    Files of an earlier drawing that this one does not draw are removed, so that no figure is out of date.

    Raises:
        UsageError: the directory holds something else.
    """
    before = claim(directory, MARKER, _KIND)
    drawn, missing = [], []
    for each in charts(material):
        if each.missing:
            missing.append({"stem": each.id, "shows": each.shows, "why": each.missing})
        else:
            drawn.append({"stem": each.id, "shows": each.shows, "files": save(each, directory, each.id)})
    index = {**_KIND, "drawn": drawn, "missing": missing}
    kept = {name for each in drawn for name in each["files"]}
    for name in {name for each in before.get("drawn", ()) for name in each["files"]} - kept:
        (directory / Path(name).name).unlink(missing_ok=True)
    write_json(directory / MARKER, index)
    write_atomic(directory / "index.md", _markdown(index))
    return {**index, "directory": str(directory)}


def _markdown(index: dict[str, Any]) -> str:
    lines = ["# Figures", ""]
    for each in index["drawn"]:
        shows = f"{each['shows'][0].upper()}{each['shows'][1:]}"
        lines += [f"## {each['stem']}", "", f"{shows}.", "", f"![{each['stem']}]({each['files'][0]})", ""]
    if index["missing"]:
        lines += ["## Not drawn", ""]
        lines += [f"- {each['stem']} ({each['shows']}): {each['why']}" for each in index["missing"]]
        lines.append("")
    return "\n".join(lines)
