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
command, that command is on this page, under words of the message: search for them, here or in the site's search. A
message without a command names the option, the key or the file to change. The exit code is 2 where nothing was done
because of what was typed, and 1 otherwise.

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


def page(remedies: Mapping[str, Remedy]) -> str:
    """Return docs/errors.md: a section for each part of lvjobs, and one in it for each message, as searches find it."""
    parts, above = [_HEAD.format(count=len(remedies))], ""
    for name, each in remedies.items():
        if name in _BEGIN:
            parts.append(f"\n## {_BEGIN[name]}\n")
        if (title := " · ".join(_escaped(words.strip()) for words in dict.fromkeys(each.seen))) != above:
            parts.append(f"\n### {title}\n")
        effect = _escaped(each.effect)
        shown = f"Type `{_shown(each.command)}`: {effect[0].lower()}{effect[1:]}"
        parts.append(f"\n{_escaped(each.trouble)} {shown}\n")
        above = title
    return "".join(parts)


def _shown(command: str) -> str:
    """Return the command with its fields as words in capitals."""
    return re.sub(r"{(\w+)}", lambda field: field[1].upper(), command)


def _escaped(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    return re.sub(r"[|*<\[\]_]", lambda match: "&lt;" if match[0] == "<" else "\\" + match[0], text)


if __name__ == "__main__":
    PAGE.write_text(page(registry()), encoding="utf-8")
