"""The findings of `lvjobs ledger check` and `lvjobs doctor`: each is a fact and a remedy."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "note", "fine"]


@dataclass(frozen=True)
class Finding:
    """One fact that a check found, with its level.

    `error`: something is wrong, and the check fails. `note`: information. `fine`: nothing is wrong. `subject` is what
    was checked: a run's name, `runs.db`, `storage`. `remedy` is empty if there is nothing to do.
    """

    level: Level
    subject: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")
