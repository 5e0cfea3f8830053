"""The content of the pages: code blocks by language, the commands in them, headings and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_HEREDOC = re.compile(r"<<'(\w+)'\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#+ (.+?)(?: \{[^}]*\})?$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The page's fenced blocks in these languages."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(source):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, source.count("\n", 0, match.start()) + 1, match["language"], text))
    return [block for block in found if not languages or block.language in languages]


def heredocs(block: Block) -> list[str]:
    """Return the files' contents that a block of shell writes."""
    return [match[2] for match in _HEREDOC.finditer(block.text)]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def shell_lines(block: Block) -> list[str]:
    """Return the typed lines: every line of sh, those after `$ ` of console."""
    text = _HEREDOC.sub("", block.text).replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    return lines


def commands(line: str) -> Iterator[list[str]]:
    """The arguments of each `lvjobs` in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";&|()"):
            if command and Path(command[0]).name == "lvjobs":
                yield command[1:]
            command = []
        else:
            command.append(word)
    for inner in re.findall(r"\$\((lvjobs [^)]*)\)", line):  # within double quotes
        yield shlex.split(inner)[1:]


def inline_commands(page: Path) -> Iterator[str]:
    """Every `lvjobs ...` in prose and tables."""
    yield from re.findall(r"`(lvjobs [^`]+)`", prose(page))


def indented_commands(page: Path) -> Iterator[str]:
    """Every line of an indented block that begins with lvjobs."""
    yield from re.findall(r"^    (lvjobs .+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page, as GitHub and the site name it."""
    found = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    """Return the targets of the page's links within the repository."""
    found = _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))
    return [link for link in found if not re.match(r"[a-z]+:", link)]
