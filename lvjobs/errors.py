"""Errors for people: what happened, what it means for their run, what to type next."""


class LvjobsError(Exception):
    """An error whose text is meant for the person at the prompt: the problem, and what to do about it, where known.

    `exit_code` is what the command ends with.
    """

    exit_code = 1

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__("; ".join(filter(None, (problem, remedy))))


class UsageError(LvjobsError):
    """Input that cannot be used: one line that names the key or file and the remedy; nothing was made or changed."""

    exit_code = 2


class RunRefused(LvjobsError):
    """Raised inside a job: the run directory does not allow this process to train (revoked, foreign, unreadable)."""


class Superseded(LvjobsError):
    """Raised inside a job: a newer generation has claimed the run, so this process may publish nothing more."""
