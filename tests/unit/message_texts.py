"""The texts of lvjobs' source that may be messages to a person."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lvjobs
from lvjobs.remedies import registry

PACKAGE = Path(lvjobs.__file__).parent
REMEDIES = registry()

HELP = frozenset({"help", "short_help", "epilog", "description"})
"""Arguments whose text is no message: help of a command, or of a key of study.toml."""
NO_MESSAGE = {
    "study/template.py": "comments of a study.toml",
    "cli/__init__.py": "the list of commands",
    "cli/examples.py": "examples in the help, which test_help types",
    "cli/help.py": "the names that other tools have for commands and options",
    "report/figures/study.py": "the mark of a directory that `lvjobs figures` wrote",
    "report/page/write.py": "the mark of a directory that `lvjobs report` wrote",
}


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that may be messages: the line, and the text with its remedies filled in."""
    skipped = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            skipped |= {id(child) for child in ast.iter_child_nodes(node)}
            continue
        is_help = isinstance(node, ast.keyword) and node.arg in HELP
        if is_help or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(child) for child in ast.iter_child_nodes(node)}
            yield node.lineno, "".join(map(part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def part(node: ast.expr) -> str:
    """Return a part of an f-string: its words, a remedy's command between marks, or another mark for any other
    value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    named = re.search(r"\bremedies\.([A-Z_]+)", ast.unparse(node))
    return f"\0{REMEDIES[named[1]].command}\0" if named else "\1"


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("remedies/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))
