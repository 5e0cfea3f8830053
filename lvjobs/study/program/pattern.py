"""The names of a program's checkpoints in its working directory, from `checkpoint` of [train]."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.placeholders import fill

_STEP = "{step}"


@dataclass(frozen=True)
class Pattern:
    """The names of a program's checkpoints, as paths in its working directory."""

    text: str
    glob: str
    expression: re.Pattern[str]
    first: int
    is_in_place: bool

    @classmethod
    def of(cls, config: CommandConfig, values: Mapping[str, Any]) -> "Pattern | None":
        """Return the pattern of a run; None if it has no checkpoints."""
        if not config.checkpoint:
            return None
        parts = re.split(r"(\{step\}|\*)", config.checkpoint)
        filled = [part if part in (_STEP, "*") else fill(part, values) for part in parts]
        glob = "".join("*" if part in (_STEP, "*") else escape(part) for part in filled)
        known = {_STEP: r"(?P<step>\d+)", "*": "[^/]*"}
        text = "".join(known.get(part) or re.escape(part) for part in filled)
        text = re.sub(r"(\(\?P<step>\\d\+\))(.*)\(\?P<step>\\d\+\)", r"\1\2\\d+", text)
        plain = os.path.normpath("".join(filled))
        return cls(
            plain, os.path.normpath(glob), re.compile(_normal(text)), config.first_checkpoint, _STEP not in parts
        )

    def paths(self, work: Path) -> list[tuple[int | None, Path]]:
        """Return what matches, with the step in its name, oldest first; None where the name holds no step."""
        matches = (
            (path, self.expression.fullmatch(path.relative_to(work).as_posix())) for path in work.glob(self.glob)
        )
        found = [(self.step(match), path) for path, match in matches if match]
        return sorted(found, key=lambda each: each[0] or 0)

    def place_of(self, name: str) -> str:
        """Return where in the working directory a checkpoint of this name belongs."""
        return self.text if self.is_in_place else f"{os.path.dirname(self.text)}/{name}"  # noqa: PTH120 - no path yet

    def step(self, match: re.Match[str]) -> int | None:
        """Return the step in a name; None if no name has one."""
        return None if self.is_in_place else int(match["step"]) - self.first + 1


def _normal(expression: str) -> str:
    return expression.removeprefix(r"\./")
