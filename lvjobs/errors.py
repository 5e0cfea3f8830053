"""Errors for people: the problem, its meaning for the run, and the next command to type."""


class LvjobsError(Exception):
    """An error whose text is meant for the person at the prompt: the problem, and the remedy where it is known.

    `exit_code` is the exit code of the command.
    """

    exit_code = 1

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__("; ".join(filter(None, (problem, remedy))))


class UsageError(LvjobsError):
    """Input that cannot be used. Its one line names the key or file and the remedy; nothing was created or changed."""

    exit_code = 2


class RunRefused(LvjobsError):
    """A refusal inside a job: the run directory does not allow this process to train (revoked, foreign, unreadable)."""


class Superseded(LvjobsError):
    """The end of an attempt inside a job: a newer generation has claimed the run, so it may publish nothing more."""


class Unwritable(LvjobsError):
    """A study that cannot be written: a full or read-only disk, or missing permission. It can still be read."""
