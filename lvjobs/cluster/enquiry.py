"""What a site is asked, all at once, by somebody who wants to know what it allows. Bounded in time; changes nothing."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from lvjobs.cluster import sites
from lvjobs.cluster.commands import answered, run, user_name
from lvjobs.cluster.parse import QUEUE_FORMAT
from lvjobs.cluster.protocol import ClusterError, ClusterSilent
from lvjobs.cluster.rights import NODE_FORMAT, RIGHTS_FORMAT

SECONDS = 6.0
"""For each question; all are asked side by side."""

PROGRAMS = ("sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo", "sacct", "sacctmgr")


@dataclass(frozen=True)
class Reply:
    """What was said, or why nothing was: `problem`, in one line. `is_silent`: the scheduler was not reached."""

    text: str = ""
    problem: str = ""
    is_silent: bool = False


@dataclass(frozen=True)
class Replies:
    """What a site said to each question; one that was not asked has an empty reply. `missing`: programs not on PATH."""

    missing: Sequence[str] = ()
    said: Mapping[str, Reply] = field(default_factory=dict)

    def __getitem__(self, question: str) -> Reply:
        """The reply to `config`, `partitions`, `nodes`, `user`, `qos`, `queue`, `history`, `help`, or one more."""
        return self.said.get(question, Reply(problem="it was not asked"))


Ask = Callable[[], str]


def enquire(more: Mapping[str, Ask], seconds: float = SECONDS) -> Replies:
    """Ask Slurm what it allows, and whatever else `more` asks (each bounded in time by itself)."""
    missing = tuple(name for name in PROGRAMS if shutil.which(name) is None)
    asks: dict[str, Ask] = {name: partial(_ask, words, seconds) for name, words in _questions().items()}
    asks |= {"user": partial(_ask_of_user, seconds), **more}
    with ThreadPoolExecutor(len(asks)) as pool:
        waiting = {name: pool.submit(_reply, ask) for name, ask in asks.items()}
        return Replies(missing, {name: each.result() for name, each in waiting.items()})


def _questions() -> dict[str, Sequence[str]]:
    user = str(os.getuid())
    return {
        "config": ("scontrol", "show", "config"),
        "help": ("scontrol", "--help"),
        "partitions": ("scontrol", "-o", "-a", "show", "partition"),
        "nodes": ("sinfo", "-h", "-a", "-e", "-o", NODE_FORMAT),
        "queue": ("squeue", "-h", "-a", "-r", "-t", "all", "-u", user, "-O", QUEUE_FORMAT),
        "history": ("sacct", "-n", "-P", "-X", "-u", user, "-S", "now-1hour", "-o", "JobID"),
        "qos": ("sacctmgr", "-n", "-P", "show", "qos", f"format={sites.QOS_FORMAT}"),
    }


def _ask(words: Sequence[str], seconds: float) -> str:
    return answered(run(words, seconds)).stdout


def _ask_of_user(seconds: float) -> str:
    return _ask(("sacctmgr", "-n", "-P", "show", "user", user_name(), "withassoc", f"format={RIGHTS_FORMAT}"), seconds)


def _reply(ask: Ask) -> Reply:
    try:
        return Reply(ask())
    except ClusterSilent as error:
        return Reply(problem=str(error), is_silent=True)
    except ClusterError as error:
        return Reply(problem=str(error))
