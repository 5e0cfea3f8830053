"""The scripts that submitit filed: which job a submission became, and how many members it has."""

import re
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = re.compile(r"(\d+)_submission\.sh\Z")
_ARRAY = re.compile(r"^#SBATCH --array=0-(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class FiledJob:
    """A submission whose job id is known."""

    id: str
    members: int


def filed_job(folder: Path) -> FiledJob | None:
    """What was submitted from `folder`; None where sbatch never told an id."""
    try:
        names = [match for path in folder.iterdir() if (match := _SCRIPT.match(path.name))]
        if not names:
            return None
        last = max(names, key=lambda match: int(match[1]))
        array = _ARRAY.search((folder / last[0]).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return FiledJob(last[1], int(array[1]) + 1 if array else 1)
