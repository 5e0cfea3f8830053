"""What `lvjobs ledger check` and `lvjobs doctor` have to say: a fact, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "note", "fine"]


@dataclass(frozen=True)
class Finding:
    """`error`: something is not as it should be, and the check fails. `note`: something to know. `fine`: it is.

    `subject` is what was looked at: a run's name, `runs.db`, `storage`. `remedy` is what to do, empty where nothing is
    to be done.
    """

    level: Level
    subject: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")
