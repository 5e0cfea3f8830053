"""The user's quota, by `quota` or `lfs quota`, if a site has them and their output can be parsed."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lvjobs.cluster.commands import run
from lvjobs.cluster.protocol import ClusterError

_SECONDS = 4.0
_NUMBER = r"\s+\[?(\d+)\]?\*?"
"""A number: `1234`, `1234*` (over its limit) or `[1234]` (Lustre: uncertain)."""

_COLUMNS = rf"{_NUMBER * 3}\s+\S+{_NUMBER * 3}\s+\S+(?!\S)"


@dataclass(frozen=True)
class Quota:
    """The bytes and files that may still be stored (negative: over the limit), and how many are allowed in all.

    None: there is no limit. `allowed` and `files_allowed` are the soft limits, else the hard ones.
    """

    left: int | None
    allowed: int | None
    files_left: int | None
    files_allowed: int | None


def quota_of(mount: str, kind: str, device: str) -> Quota | None:
    """Return this user's quota on the file system that is mounted there; None if it is not known."""
    if kind == "lustre":
        text = _said(["lfs", "quota", "-q", "-u", str(os.getuid()), mount])
        return parse_quota(text, (mount,))
    # -w: one line each; -p: a number in every column, even if no grace period runs
    text = _said(["quota", "-w", "-p", "-u", str(os.getuid())])
    return parse_quota(text, (device, mount))


def _said(words: Sequence[str]) -> str:
    """Return the command's output; empty if it does not exist or hangs. A failure code may mean "over quota"."""
    try:
        return run(words, _SECONDS).stdout
    except ClusterError:
        return ""


def parse_quota(text: str, names: Sequence[str]) -> Quota | None:
    """Return the quota in the row of the file system of one of these names; None if there is no such row. Pure.

    `quota` and `lfs quota` print the same nine columns: file system; KiB used, soft limit, hard limit, grace; files and
    the same of them. A site's own program called `quota` prints another format, which is ignored.
    """
    row = re.search(rf"(?:^|\s)(?:{'|'.join(re.escape(name) for name in names if name)}){_COLUMNS}", text)
    if row is None:
        return None
    used, soft, hard, files, soft_files, hard_files = map(int, row.groups())
    return Quota(*_left(1024 * used, 1024 * (soft or hard)), *_left(files, soft_files or hard_files))


def _left(used: int, allowed: int) -> tuple[int | None, int | None]:
    return (allowed - used, allowed) if allowed else (None, None)
