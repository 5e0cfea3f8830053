"""The doctor's findings, each with its consequence."""

from dataclasses import dataclass

from lvjobs.control.recovery.findings import Finding


@dataclass(frozen=True)
class Diagnosis(Finding):
    """One finding. `fine`: as it should be. `note`: worth knowing. `error`: runs fail, or never start, until fixed.

    `what` is the fact, `means` the consequence for a study, `remedy` what to do; the last two may be empty.
    """

    means: str = ""


def fine(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that all is as it should be."""
    return Diagnosis("fine", subject, what, remedy, means)


def note(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that is worth knowing."""
    return Diagnosis("note", subject, what, remedy, means)


def error(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that has to be fixed."""
    return Diagnosis("error", subject, what, remedy, means)
