"""Files of the site from outside docs/ (CHANGELOG.md, examples/), links to them, and how a search ranks pages."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
CHANGES = "changes.md"
RANKS = {
    "errors.md": 2,
    "resume.md": 2,
    "flops.md": 2,
    "troubleshooting.md": 1.5,
    "api-reference.md": 0.5,
    CHANGES: 0.2,
}
"""Factors by which a search puts these pages before or after others: who searches has most often seen a message."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what lies beside docs/."""
    files.append(File.generated(config, CHANGES, abs_src_path=str(ROOT / "CHANGELOG.md")))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.is_file():
            files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs's
    """Rank the page; lead links out of docs/ to these files on the site, and those of CHANGELOG.md into it."""
    if page.file.src_uri in RANKS:
        page.meta["search"] = {"boost": RANKS[page.file.src_uri]}
    if page.file.src_uri == CHANGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    return markdown.replace("](../examples/", "](examples/").replace("](../CHANGELOG.md", f"]({CHANGES}")
