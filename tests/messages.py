"""Every error message that lvjobs can raise, found in its source: where it is raised, of which class, and its words.

A message is a template: what is filled in stands there as a word in capitals, and of texts of which one is chosen each,
with a stroke between them. Nothing of lvjobs is imported: what is read is the source.
"""

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "lvjobs"
ROOT = "LvjobsError"

_STROKE = " / "
_MOST_TEXTS = 3
_NAMELESS = frozenset("name names id root value key parent text strerror orig source args said stem".split())  # noqa: SIM905
"""Attributes that are called after what they are of: `stage.name` is STAGE."""
_WORDS: Mapping[str, str] = {
    "error": "REASON",
    "reason": "REASON",
    "said": "ANSWER",
    "layout": "RUN-DIRECTORY",
    "files": "RUN-DIRECTORY",
    "row": "RUN",
    "arguments": "COMMAND",
    "getuid": "USER",
}
"""What stands for a variable whose own name would tell a reader nothing."""

_MODULES = ("np", "os", "dict", "shlex", "json", "math", "torch")
"""Whose functions are called after what they are given."""


@dataclass(frozen=True)
class Message:
    """One place that makes an error. `kind` is its class; where one of two is chosen, the first."""

    module: str
    function: str
    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Raised:
    """One raise statement: what is raised as it is written, and whether its message stands right there."""

    module: str
    function: str
    line: int
    source: str
    is_message: bool


@dataclass(frozen=True)
class Scan:
    """What the package's source says. `classes`: its errors, each with the class that it is made of."""

    messages: Sequence[Message]
    raised: Sequence[Raised]
    classes: Mapping[str, str]

    def lineage(self, kind: str) -> list[str]:
        """The class, what it is made of, and so on."""
        return _lineage(kind, self.classes)


def scan(package: Path = PACKAGE) -> Scan:
    """Read the package."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    parents = {
        node.name: node.bases[0].id
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name)
    }
    classes = {name: parent for name, parent in parents.items() if ROOT in _lineage(name, parents)}
    messages, raised = [], []
    for path, tree in trees.items():
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        more, raises = _scan_module(name, tree, classes)
        messages += more
        raised += raises
    return Scan(messages, raised, classes)


def _lineage(kind: str, parents: Mapping[str, str]) -> list[str]:
    found = [kind]
    while found[-1] in parents:
        found.append(parents[found[-1]])
    return found


def _scan_module(name: str, tree: ast.Module, classes: Mapping[str, str]) -> tuple[list[Message], list[Raised]]:
    messages: dict[ast.AST, Message] = {}
    raised = []
    for node, scope in _walk(tree, _Scope(tree)):
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call) and call.args:
            kind = scope.kind(call.func, classes, of_python=call is not node)
            if kind and call not in messages:
                messages[call] = Message(name, scope.function, node.lineno, kind, scope.text(call.args[-1]))
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised.append(Raised(name, scope.function, node.lineno, ast.unparse(node.exc), node.exc in messages))
    return list(messages.values()), raised


def _walk(node: ast.AST, scope: "_Scope") -> Iterator[tuple[ast.AST, "_Scope"]]:
    """All nodes below, raise statements before the calls in them, each with the names that are known there."""
    for child in ast.iter_child_nodes(node):
        within = scope.inner(child) if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else scope
        yield child, within
        yield from _walk(child, within)


@dataclass(frozen=True)
class _Scope:
    """What a function's names stand for, as far as the source says it plainly."""

    tree: ast.Module
    path: tuple[ast.FunctionDef | ast.ClassDef, ...] = field(default=())
    open: tuple[str, ...] = ()
    """Names that are being looked up, which must not lead back to themselves."""

    @property
    def function(self) -> str:
        return ".".join(each.name for each in self.path)

    def inner(self, node: ast.FunctionDef | ast.ClassDef) -> "_Scope":
        return _Scope(self.tree, (*self.path, node))

    def kind(self, function: ast.expr, classes: Mapping[str, str], *, of_python: bool) -> str:
        """The class of error that a call of `function` makes; empty where it is none."""
        if isinstance(function, ast.IfExp):
            return self.kind(function.body, classes, of_python=of_python)
        if isinstance(function, ast.Attribute) and function.attr == "__init__":
            return next((each.name for each in self.path if each.name in classes), "")
        if not isinstance(function, ast.Name):
            return ""
        if function.id in classes or (of_python and isinstance(getattr(builtins, function.id, None), type)):
            return function.id
        chosen = [value for value in self.values(function.id) if isinstance(value, ast.IfExp)]
        return self.kind(chosen[0], classes, of_python=of_python) if chosen and of_python else ""

    def values(self, name: str) -> Sequence[ast.expr]:
        """All that is assigned to the name in the function, or else in the module; nothing where that is not known."""
        for place in (*reversed(self.path), self.tree):
            if name in (known := _bindings(place)):
                return known[name]
        return ()

    def text(self, node: ast.expr) -> str:
        """The words of an expression that makes a string."""
        return self.plain(node) or self.word(node)

    def plain(self, node: ast.expr) -> str | None:
        """The text, where it is one to read off: literals, f-strings, sums, choices, names and functions of such."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            parts = [self.text(each) for each in node.values]
            # `{message[0].lower()}{message[1:]}` is one thing to a reader
            return "".join(part for part, before in zip(parts, ["", *parts], strict=False) if part != before)
        if isinstance(node, ast.FormattedValue):
            numbers = self.values(node.value.id) if isinstance(node.value, ast.Name) else []
            if len(numbers) == 1 and isinstance(numbers[0], ast.Constant):
                return str(numbers[0].value)
            return self.text(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [self.plain(node.left), self.plain(node.right)]
            return (
                None
                if parts == [None, None]
                else "".join(
                    part if part is not None else self.word(side)
                    for part, side in zip(parts, (node.left, node.right), strict=True)
                )
            )
        if isinstance(node, ast.IfExp):
            return self._one_of([node.body, node.orelse])
        if isinstance(node, ast.Name) and node.id not in self.open:
            return self._known(node.id)._one_of(self.values(node.id))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in self.open:
            return self._returned(node.func.id)
        return None

    def _known(self, name: str) -> "_Scope":
        return _Scope(self.tree, self.path, (*self.open, name))

    def _one_of(self, nodes: Sequence[ast.expr]) -> str | None:
        texts = [self.plain(node) for node in nodes]
        if not texts or all(text is None for text in texts) or len(texts) > _MOST_TEXTS:
            return None
        words = [self.word(node) if text is None else text for node, text in zip(nodes, texts, strict=True)]
        first, *others = dict.fromkeys(filter(None, words))
        return _STROKE.join([first, *(each.lstrip(";, ") for each in others)])

    def _returned(self, name: str) -> str | None:
        function = next(
            (each for each in self.tree.body if isinstance(each, ast.FunctionDef) and each.name == name), None
        )
        if function is None:
            return None
        within = _Scope(self.tree, (function,), (*self.open, name))
        returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
        return within._one_of(returned) if all(within.plain(each) for each in returned) else None

    def word(self, node: ast.expr) -> str:
        """The word that stands for what an expression will be."""
        names = [part for part in _names(node) if part not in _NAMELESS] or _names(node) or ["value"]
        if names[0] == "self":
            names = [each.name for each in self.path if isinstance(each, ast.ClassDef)]
        return _WORDS.get(names[0], re.sub("[^A-Z0-9]+", "-", names[0].upper()).strip("-"))


@cache
def _bindings(place: ast.AST) -> Mapping[str, Sequence[ast.expr]]:
    """The names that a function, a class or a module binds: to what, or to nothing that the source says."""
    is_function = isinstance(place, ast.FunctionDef)
    found: dict[str, list[ast.expr]] = {}
    unknown: set[str] = set()
    for node in ast.walk(place) if is_function else place.body:
        if isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else ()
                pairs = [*zip(node.targets[0].elts, values, strict=False)]
                unknown |= set() if pairs else _stored(node.targets[0])
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(value)
        elif isinstance(node, ast.arg):
            unknown.add(node.arg)
        elif isinstance(node, (ast.For, ast.AugAssign, ast.NamedExpr)):
            unknown |= _stored(node.target)
        elif isinstance(node, ast.withitem) and node.optional_vars:
            unknown |= _stored(node.optional_vars)
    return {**found, **dict.fromkeys(unknown, ())}


def _stored(target: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}


def _names(node: ast.expr) -> list[str]:
    """What an expression calls the thing that it is of, the most telling first."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr, *_names(node.value)]
    if isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return [node.slice.value, *_names(node.value)]
        return _names(node.value)
    if isinstance(node, ast.Call):
        inner = [name for argument in node.args for name in _names(argument)]
        if isinstance(node.func, ast.Attribute):
            owner = [] if ast.unparse(node.func.value) in _MODULES else _names(node.func.value)
            return [*owner, *inner] or [node.func.attr]
        known = {"len": ["n"], "getattr": ["value"]}
        return known.get(ast.unparse(node.func)) or inner or _names(node.func)
    return [name for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr) for name in _names(child)]
