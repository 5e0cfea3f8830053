"""The findings of `lvjobs ledger check` and `lvjobs doctor`: each is a fact and a remedy.

`_KNOWN` has the texts of the findings on a ledger and its run directories. A new finding is an entry there, and one
line where it is found. In a remedy, `{where}` are the options that name the study.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lvjobs import remedies

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


_REBUILD = f"rebuild the ledger from the journals: {remedies.LEDGER_REBUILD_ASIDE}{{where}}"
_NEXT_PASS = f"the next update writes it again: {remedies.RESUME}{{where}}"
_KEPT = "runs.db has its content; to write it again: {resume_run}"

_KNOWN: Mapping[str, tuple[Level, str, str]] = {
    # the file
    "damaged": (
        "error",
        "{path} is damaged: {problem}",
        f"put a backup in its place, or rebuild it: {remedies.LEDGER_REBUILD_ASIDE}{{where}}",
    ),
    "no ledger": (
        "error",
        "{path} is no ledger of lvjobs",
        f"rebuild it from the run directories: {remedies.LEDGER_REBUILD_ASIDE}{{where}}",
    ),
    "older schema": (
        "note",
        "has schema {revision}, and this lvjobs reads {head}",
        "the next command migrates it, and keeps a copy beside it",
    ),
    "newer schema": (
        "error",
        "has schema {revision}, which is of a newer lvjobs than this one ({head})",
        "use that release",
    ),
    "log behind": (
        "note",
        "{path}, from which a lost runs.db would be rebuilt, is not up to date",
        _NEXT_PASS,
    ),
    "log damaged": (
        "error",
        "{path}, from which a lost runs.db would be rebuilt, is damaged ({problem})",
        "remove it, and the next command writes another: {remove}",
    ),
    "wrong sum": (
        "error",
        "{name} add up to {total} FLOPs, and {spent} are spent",
        "this is a bug in lvjobs: please report it",
    ),
    "moved": (
        "note",
        "the study of {path} was moved here",
        f"the next update records it: {remedies.STATUS}{{where}}",
    ),
    "copied": (
        "note",
        "the study of {path} is in use there, and this is a copy",
        f"the next command records that the jobs belong to the original: {remedies.STATUS}{{where}}",
    ),
    "unclear": (
        "note",
        "the study of {path} was moved or copied here",
        f"type: {remedies.STATUS}{{where}}, which asks you which",
    ),
    # run directories
    "unreadable": (
        "error",
        "{root} cannot be read ({error})",
        "check that file",
    ),
    "gone": (
        "error",
        "its directory {root} is gone, and with it its checkpoints and the journals that its charges follow from",
        "restore it from a backup; otherwise the run starts again, and its FLOPs stay charged",
    ),
    "foreign": (
        "error",
        "{root} belongs to user {owner}, and this is user {me}: so lvjobs does not use it",
        "copy it as yourself, or have its owner changed",
    ),
    "unknown": (
        "error",
        "{root} holds a run that the ledger does not know",
        (
            "submit the same run again to continue it, or move it away, or type: "
            f"{remedies.LEDGER_REBUILD_ASIDE}{{where}}"
        ),
    ),
    "left over": (
        "note",
        "{root} was made for a run that was not submitted",
        "it can be deleted",
    ),
    # a run
    "config unreadable": (
        "error",
        "{path} cannot be read{then} ({error})",
        _KEPT,
    ),
    "config of another": (
        "error",
        "{path} is of another run than the ledger's",
        "move that directory away, or restore the right one",
    ),
    "config edited": (
        "error",
        "{path} was edited after the run was declared",
        _KEPT,
    ),
    "done": (
        "note",
        "is done, and the ledger has it as {state}",
        "the next update records it",
    ),
    "not done": (
        "error",
        "is completed by the ledger, and its done marker is gone: a new job would train it again",
        "restore {path} from a backup",
    ),
    "not revoked": (
        "error",
        "submission {token} may not train it any more, but its worker does not know",
        _NEXT_PASS,
    ),
    "no allowance": (
        "error",
        "{path} is gone: its worker would train without a limit, or not at all",
        _NEXT_PASS,
    ),
    "large allowance": (
        "error",
        "its worker may execute {allowed} steps, and {reserved} are reserved for it",
        "the next renewal of its reservation corrects it",
    ),
    # its attempts
    "unseen": (
        "note",
        "attempts that the ledger has not seen yet: {attempts}",
        f"the next update reads them: {remedies.STATUS}{{where}}",
    ),
    "journal gone": (
        "error",
        "attempt {attempt}: a part of its journal, or its claim, is missing; what was charged is kept",
        "restore {path} from a backup",
    ),
    "other journal": (
        "error",
        "attempt {attempt}: runs.db and the journal disagree ({pairs})",
        _REBUILD,
    ),
    "wrong charge": (
        "error",
        "attempt {attempt}: {charged} {kind} charged, {shown} in the journals",
        _REBUILD,
    ),
    "written since": (
        "note",
        "attempt {attempt} has written more since the last update",
        "",
    ),
    "other versions": (
        "note",
        (
            "attempt {attempt} continued with {new}, where attempt {before} had {old}: its weights are no longer, bit "
            "for bit, those of an undisturbed run"
        ),
        "where that matters, submit it again under another --name",
    ),
    "other software": (
        "note",
        "{line}; its weights may differ from those of an undisturbed run",
        "if that matters, submit the run again under another --name",
    ),
    "damaged checkpoint": (
        "note",
        "checkpoint {name} was damaged ({problem}); attempt {attempt} continued from an older",
        "check the disk",
    ),
}


def finding(name: str, /, subject: str, where: Sequence[str] = (), **values: object) -> Finding:
    """Return the known finding of this name about `subject`, with these values in its text.

    `where`: see `StudyContext.where`.
    """
    level, what, remedy = _KNOWN[name]
    options = "".join(f" {shlex.quote(option)}" for option in where)
    resume_run = remedies.RESUME_RUN(*where, run=subject)
    return Finding(level, subject, what.format(**values), remedy.format(where=options, resume_run=resume_run, **values))
