"""Directories into which commands write results, which are never written over something else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.files import write_json


def claim(directory: Path, marker: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Make `directory` ready for results of this `identity`, and return what its marker held (empty if it is new).

    A directory that holds the same kind already may be written again.

    Raises:
        UsageError: it holds something else, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in directory.iterdir()}
        if marker not in held:
            if held:
                raise UsageError(
                    f"{directory} holds other files, such as {min(held)}: name another directory with --out"
                )
            write_json(directory / marker, identity)
            return {}
        found = json.loads((directory / marker).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its marker is no JSON"
        raise UsageError(f"{directory} cannot be used ({reason}): name another directory with --out") from None
    for key, value in identity.items():
        if not isinstance(found, dict) or found.get(key) != value:
            raise UsageError(f"{directory} holds something else ({key} differs): name another directory with --out")
    return dict(found)
