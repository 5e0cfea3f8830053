"""What this user may still store, by `quota` or `lfs quota`, where a site has them and they can be understood."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS = 4.0
_COLUMNS = 9


@dataclass(frozen=True)
class Quota:
    """Used and allowed (None: no limit) in bytes, and in files. `allowed` is the softer of two limits."""

    used: int
    allowed: int | None
    files: int
    files_allowed: int | None

    @property
    def left(self) -> int | None:
        """Bytes that may still be stored; negative where it is over."""
        return None if self.allowed is None else self.allowed - self.used

    @property
    def files_left(self) -> int | None:
        """Files that may still be made."""
        return None if self.files_allowed is None else self.files_allowed - self.files


def quota_of(mount: str, kind: str, device: str) -> Quota | None:
    """This user's quota on the file system that is mounted there; None where nothing tells."""
    if kind == "lustre":
        text = _said(["lfs", "quota", "-q", "-u", str(os.getuid()), mount])
        return parse_quota(text, (mount,))
    # -w: one line each; -p: a number in every column, also where no grace runs
    text = _said(["quota", "-w", "-p", "-u", str(os.getuid())])
    return parse_quota(text, (device, mount))


def _said(words: Sequence[str]) -> str:
    """What the command printed; nothing where there is none, or it does not come back. Its exit code may say "over"."""
    if shutil.which(words[0]) is None:
        return ""
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def parse_quota(text: str, names: Sequence[str]) -> Quota | None:
    """The row of the file system of one of these names. Pure.

    `quota` and `lfs quota` print the same nine columns: file system; KiB used, soft limit, hard limit, grace; files and
    the same of them. A site's own program of the name `quota` prints something else, which is passed over.
    """
    words = text.split()
    for start, word in enumerate(words):
        if word in names:
            row = words[start + 1 : start + _COLUMNS]
            numbers = [_number(row[place]) for place in (0, 1, 2, 4, 5, 6)] if len(row) == _COLUMNS - 1 else [None]
            known = [number for number in numbers if number is not None]
            if len(known) == len(numbers):
                used, soft, hard, files, soft_files, hard_files = known
                allowed = soft or hard
                return Quota(
                    used * 1024, allowed * 1024 if allowed else None, files, (soft_files or hard_files) or None
                )
    return None


def _number(word: str) -> int | None:
    """`1234`, or `1234*` of what is over its limit; Lustre puts doubtful numbers in brackets."""
    match = re.fullmatch(r"\[?(\d+)\]?\*?", word)
    return int(match[1]) if match else None
