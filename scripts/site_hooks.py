"""What the site has from outside docs/: CHANGELOG.md as a page, examples/ as files; links to them are mended."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
CHANGES = "changes.md"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what lies beside docs/."""
    files.append(File.generated(config, CHANGES, abs_src_path=str(ROOT / "CHANGELOG.md")))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.is_file():
            files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs's
    """Links out of docs/ lead to where these files are on the site, and those of CHANGELOG.md into it."""
    if page.file.src_uri == CHANGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    return markdown.replace("](../examples/", "](examples/").replace("](../CHANGELOG.md", f"]({CHANGES}")
