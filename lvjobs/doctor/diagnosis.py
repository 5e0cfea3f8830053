"""What the doctor has to say: a finding, and what it means."""

from dataclasses import dataclass

from lvjobs.control.recovery.findings import Finding


@dataclass(frozen=True)
class Diagnosis(Finding):
    """`fine`: as it should be. `note`: something to know. `error`: runs fail, or never start, until it is mended.

    `what` was seen, `means` is what follows for a study, `remedy` what to do; either may be empty.
    """

    means: str = ""


def fine(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """As it should be."""
    return Diagnosis("fine", subject, what, remedy, means)


def note(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Something to know."""
    return Diagnosis("note", subject, what, remedy, means)


def error(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Something to mend."""
    return Diagnosis("error", subject, what, remedy, means)
