"""Write docs/errors.md from lvjobs.remedies: `python scripts/make_errors.py`.

tests/unit/remedies/test_remedies.py fails where the page is no longer what this gives.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from lvjobs.remedies import Remedy, registry

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"

_HEAD = """\
<!-- Written by `python scripts/make_errors.py` from lvjobs/remedies: change it there. -->

# Errors and what to type

An error is one line, `lvjobs: ...`: what happened, what it means for the run, what to do. Where a message names a
command, that command is in this table: search for words of the message. A message without a command names the option,
the key or the file to change. The exit code is 2 where nothing was done because of what was typed, and 1 otherwise.

Each of the {count} commands is typed in a test that first brings its trouble about.
[Troubleshooting](troubleshooting.md) has what people meet most.
"""

_BEGIN = {
    "INIT": "The study",
    "RESUME": "Runs",
    "SWEEP_PLAN": "Stages",
    "BUDGET": "FLOPs",
    "LEDGER_CHECK": "runs.db",
    "DRIVER_START": "The driver",
    "MODEL_PULL": "Models, data and packages",
    "SCONTROL_RELEASE": "The site and the file system",
    "LAB_UP": "The lab",
}
"""The remedy with which each section begins, and the section's title."""

_COLUMNS = """
## {title}

| the message has | what happened | what to type | what that does |
|---|---|---|---|
"""


def page(remedies: Mapping[str, Remedy]) -> str:
    """Return docs/errors.md."""
    rows = [
        (_COLUMNS.format(title=_BEGIN[name]) if name in _BEGIN else "") + _row(each) for name, each in remedies.items()
    ]
    return _HEAD.format(count=len(remedies)) + "".join(rows)


def _row(remedy: Remedy) -> str:
    cells = [
        "<br>".join(map(_cell, remedy.seen)),
        _cell(remedy.trouble),
        f"`{_shown(remedy.command)}`",
        _cell(remedy.effect),
    ]
    return f"| {' | '.join(cells)} |\n"


def _shown(command: str) -> str:
    """Return the command with its fields as words in capitals."""
    return re.sub(r"{(\w+)}", lambda field: field[1].upper(), command).replace("|", "\\|")


def _cell(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    return re.sub(r"[|*<\[\]_]", lambda match: "&lt;" if match[0] == "<" else "\\" + match[0], text)


if __name__ == "__main__":
    PAGE.write_text(page(registry()), encoding="utf-8")
