"""Questions to a site about what it allows, asked all at once. Each has a time limit; none changes anything."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from lvjobs.cluster import sites
from lvjobs.cluster.commands import answered, run, user_name
from lvjobs.cluster.nodes import GROUPS_FORMAT
from lvjobs.cluster.parse import QUEUE_FORMAT
from lvjobs.cluster.protocol import ClusterError, ClusterSilent

SECONDS = 6.0
"""Seconds for each question. All are asked at the same time."""

PROGRAMS = ("sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo", "sacct", "sacctmgr")


@dataclass(frozen=True)
class Reply:
    """The answer to one question, or the `problem` in one line. `is_silent`: the scheduler was not reached."""

    text: str = ""
    problem: str = ""
    is_silent: bool = False


@dataclass(frozen=True)
class Replies:
    """A site's answers; a question that was not asked has an empty reply. `missing`: programs that are not on PATH."""

    missing: Sequence[str] = ()
    said: Mapping[str, Reply] = field(default_factory=dict)

    def __getitem__(self, question: str) -> Reply:
        """Return the reply to one of `_QUESTIONS`, or to one of the caller's own."""
        return self.said.get(question, Reply(problem="it was not asked"))


_QUESTIONS = ("config", "help", "partitions", "nodes", "user", "qos", "queue", "history")

Ask = Callable[[], str]


def enquire(more: Mapping[str, Ask], seconds: float = SECONDS) -> Replies:
    """Ask Slurm what it allows, and ask the questions in `more`, by name. `seconds` limits each of Slurm's questions.

    The functions in `more` limit their own time. Their ClusterError becomes a reply's `problem`.
    """
    missing = tuple(name for name in PROGRAMS if shutil.which(name) is None)
    asks = {name: partial(_ask, name, seconds) for name in _QUESTIONS} | {**more}
    with ThreadPoolExecutor(len(asks)) as pool:
        waiting = {name: pool.submit(_reply, ask) for name, ask in asks.items()}
        return Replies(missing, {name: each.result() for name, each in waiting.items()})


def question(name: str) -> Sequence[str]:
    """Return the command that asks Slurm this question (see `Replies`).

    Raises:
        ClusterError: the question is about the user, who has no name here.
    """
    user = str(os.getuid())
    if name == "user":
        return ("sacctmgr", "-n", "-P", "show", "user", user_name(), "withassoc", f"format={sites.USER_FORMAT}")
    return {
        "config": ("scontrol", "show", "config"),
        "help": ("scontrol", "--help"),
        "partitions": ("scontrol", "-o", "-a", "show", "partition"),
        "nodes": ("sinfo", "-h", "-a", "-e", "-o", GROUPS_FORMAT),
        # Ask for all jobs of this user, not for a list of ids: squeue fails for all ids when it does not know one of
        # them. `-t all` shows ended jobs for MinJobAge: without accounting there is no other history. `-a` is needed to
        # show even the user's own jobs in a hidden partition.
        "queue": ("squeue", "-h", "-a", "-r", "-t", "all", "-u", user, "-O", QUEUE_FORMAT),
        "history": ("sacct", "-n", "-P", "-X", "-u", user, "-S", "now-1hour", "-o", "JobID"),
        "qos": ("sacctmgr", "-n", "-P", "show", "qos", f"format={sites.QOS_FORMAT}"),
    }[name]


def _ask(name: str, seconds: float) -> str:
    return answered(run(question(name), seconds)).stdout


def _reply(ask: Ask) -> Reply:
    try:
        return Reply(ask())
    except ClusterError as error:
        return Reply(problem=str(error), is_silent=isinstance(error, ClusterSilent))
