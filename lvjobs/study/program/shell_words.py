"""The simple commands of a shell script, as words. Pure: a script is only read, and nothing in it is executed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lvjobs import remedies
from lvjobs.errors import UsageError

_OPERATOR = re.compile(r"&&|\|\||\|&|;;|&>>?|<<<|<<|>>|>&|<&|>\||<>|[|&;()<>]")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)\}|(?P<bare>[A-Za-z_]\w*))")
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=")
_SHOWN = 60
"""Characters of a script that a message quotes."""

Kind: TypeAlias = Literal["text", "variable", "shell"]


def shown(text: str) -> str:
    """Return text of a script for a message: on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


class NotConstant(ValueError):
    """A word whose value only a shell knows; its text is the part of the word that has no constant value."""


@dataclass(frozen=True)
class Part:
    """A part of a word: text, the name of a variable, or the source of something that only a shell can expand."""

    kind: Kind
    text: str
    is_quoted: bool = True


@dataclass(frozen=True)
class Word:
    """A word of a script; `source` is its text in the script."""

    parts: tuple[Part, ...]
    source: str

    @property
    def plain(self) -> str:
        """Return the word without quotes, with all that a shell would expand as it is written."""
        return "".join(f"${{{part.text}}}" if part.kind == "variable" else part.text for part in self.parts)

    @property
    def assigned(self) -> "tuple[str, Word] | None":
        """Return the name and the value of an assignment; None for any other word."""
        first = self.parts[0] if self.parts else None
        match = _ASSIGNMENT.match(first.text) if first and first.kind == "text" and not first.is_quoted else None
        if first is None or match is None:
            return None
        rest = Part("text", first.text[match.end() :])
        quoted = (Part(part.kind, part.text) for part in self.parts[1:])  # a value is never split into words
        return match["name"], Word((rest, *quoted), self.source)

    def expanded(self, constants: Mapping[str, str]) -> list[str]:
        """Return the words that a shell makes of this one.

        Raises:
            NotConstant: it has a variable that is not in `constants`, or something else that only a shell can expand.
        """
        words, is_open = [""], any(part.is_quoted for part in self.parts)
        for part in self.parts:
            if part.kind == "shell":
                raise NotConstant(shown(part.text))
            if part.kind == "variable" and part.text not in constants:
                raise NotConstant(f"${part.text}")
            value = constants[part.text] if part.kind == "variable" else part.text
            if part.kind == "text" or part.is_quoted:
                words[-1] += value
                continue
            pieces = value.split()
            if value[:1].isspace() and words[-1]:
                words.append("")
            words[-1] += pieces[0] if pieces else ""
            words += pieces[1:]
            if value[-1:].isspace() and pieces:
                words.append("")
        return [word for word in words if word or is_open]


@dataclass
class Command:
    """A simple command.

    Attributes:
        line: Its first line, counted from 1.
        words: Its words, without redirections.
        redirections: Its redirections as they are written.
        end: What ends it: a newline, `;`, `&&`, `|`, `&`, `(`, `)` or the like.
    """

    line: int
    words: list[Word] = field(default_factory=list)
    redirections: list[str] = field(default_factory=list)
    end: str = "\n"

    @property
    def source(self) -> str:
        """Return its words as they are written."""
        return " ".join(word.source for word in self.words)


def commands_in(text: str) -> Iterator[Command]:
    """Yield the simple commands of a script, in their order.

    Raises:
        UsageError: a quote or a bracket is not closed, or there is a here-document. The message names the line.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    command, redirection = Command(1), ""
    for token in scanner.tokens():
        if isinstance(token, Word) and redirection:
            command.redirections.append(f"{redirection}{token.source}")
            redirection = ""
        elif isinstance(token, Word):
            command.line = command.line if command.words else scanner.begun
            command.words.append(token)
        elif "<" in token or ">" in token:
            redirection = token
        else:
            command.end, redirection = token, ""
            if command.words:
                yield command
            elif token in ("(", ")"):
                yield Command(scanner.line, [], [], token)
            command = Command(scanner.line)


class _Scanner:
    """A scanner of a script. `line` is where it is; `begun` is the line of the newest word's first character."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.line = self.begun = 1

    def tokens(self) -> Iterator[Word | str]:
        """Yield words and operators; a newline is an operator."""
        while self._at < len(self._text):
            rest = self._text[self._at : self._at + 3]
            if rest.startswith("\\\n"):
                self._skip(2)
            elif rest[0] in " \t\r":
                self._skip(1)
            elif rest[0] == "#":
                end = self._text.find("\n", self._at)
                self._skip((len(self._text) if end < 0 else end) - self._at)
            elif rest[0] == "\n":
                yield "\n"
                self._skip(1)
            elif match := re.compile(r"\d+(?=[<>])").match(self._text, self._at) or _OPERATOR.match(
                self._text, self._at
            ):
                yield from self._operator(match)
            else:
                yield self._word()
        yield "\n"

    def _operator(self, match: re.Match[str]) -> Iterator[str]:
        if match[0].isdigit():  # the number of a redirection
            self._skip(len(match[0]))
            match = _OPERATOR.match(self._text, self._at) or match
            self._skip(len(match[0]))
            yield f"{match.string[match.start() - 1]}{match[0]}"
            return
        if match[0] == "<<":
            raise UsageError(
                f"line {self.line}: a here-document (<<) cannot be read; put its text into another file, or begin with "
                f"{remedies.INIT_SCRIPT}"
            )
        self._skip(len(match[0]))
        yield match[0]

    def _word(self) -> Word:
        start, self.begun = self._at, self.line
        parts: list[Part] = []
        while self._at < len(self._text) and self._text[self._at] not in " \t\r\n|&;()<>":
            character = self._text[self._at]
            if character == "'":
                parts.append(Part("text", self._until("'", 1)[:-1]))
            elif character == '"':
                self._skip(1)
                parts += self._quoted()
            elif character == "\\":
                escaped = self._text[self._at + 1 : self._at + 2]
                self._skip(2)
                parts += [Part("text", escaped)] if escaped != "\n" else []
            elif character in "$`":
                parts.append(self._expansion(is_quoted=False))
            elif character == "*" or (character == "~" and self._at == start):
                self._skip(1)
                parts.append(Part("shell", character, is_quoted=False))
            else:
                end = re.compile(r"[^\s'\"\\$`*|&;()<>]+").match(self._text, self._at)
                found = end[0] if end else character
                self._skip(len(found))
                parts.append(Part("text", found, is_quoted=False))
        return Word(tuple(parts), self._text[start : self._at])

    def _quoted(self) -> Iterator[Part]:
        """Yield the parts up to the closing double quote."""
        yield Part("text", "")
        line = self.begun
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == '"':
                self._skip(1)
                return
            if character in "$`":
                yield self._expansion(is_quoted=True)
            elif character == "\\" and self._text[self._at + 1 : self._at + 2] in ("$", "`", '"', "\\", "\n"):
                escaped = self._text[self._at + 1]
                self._skip(2)
                yield Part("text", escaped if escaped != "\n" else "")
            else:
                self._skip(1)
                yield Part("text", character)
        raise self._unclosed('"', line)

    def _expansion(self, *, is_quoted: bool) -> Part:
        """Return a variable, or what else begins with a dollar or a backquote."""
        if match := _VARIABLE.match(self._text, self._at):
            self._skip(len(match[0]))
            return Part("variable", match["braced"] or match["bare"], is_quoted)
        following = self._text[self._at + 1 : self._at + 2]
        if self._text[self._at] == "`":
            return Part("shell", "`" + self._until("`", 1), is_quoted)
        if following in ("(", "{"):
            return Part("shell", self._bracket(following, {"(": ")", "{": "}"}[following]), is_quoted)
        if following == "'" and not is_quoted:
            return Part("shell", "$'" + self._until("'", 2), is_quoted)
        if following and (following.isdigit() or following in "@*#?!-$"):
            self._skip(2)
            return Part("shell", "$" + following, is_quoted)
        self._skip(1)
        return Part("text", "$", is_quoted)

    def _bracket(self, opening: str, closing: str) -> str:
        start, line, depth = self._at, self.line, 0
        for place in range(start + 1, len(self._text)):
            depth += {opening: 1, closing: -1}.get(self._text[place], 0)
            if depth == 0:
                self._skip(place + 1 - start)
                return self._text[start : place + 1]
        raise self._unclosed(f"${opening}", line)

    def _until(self, mark: str, opening: int) -> str:
        """Return the text up to and with `mark`, after an opening of that many characters."""
        start, line = self._at + opening, self.line
        end = self._text.find(mark, start)
        if end < 0:
            raise self._unclosed(mark, line)
        self._skip(end + 1 - self._at)
        return self._text[start : end + 1]

    def _unclosed(self, mark: str, line: int) -> UsageError:
        return UsageError(f"line {line}: {mark} is not closed; close it, and type the command again")

    def _skip(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count
