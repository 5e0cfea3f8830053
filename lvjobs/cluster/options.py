"""The options of sbatch that a user may not add, because lvjobs sets them itself or would lose the job. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from lvjobs.errors import UsageError

_RESERVED = {
    "array": "a",
    "clusters": "M",
    "cluster-constraint": "",
    "error": "e",
    "gid": "",
    "help": "h",
    "job-name": "J",
    "no-requeue": "",
    "nodes": "N",
    "ntasks": "n",
    "open-mode": "",
    "output": "o",
    "parsable": "",
    "quiet": "Q",
    "requeue": "",
    "signal": "",
    "test-only": "",
    "uid": "",
    "usage": "",
    "version": "V",
    "wait": "W",
    "wrap": "",
}
"""Long names and letters. lvjobs relies on what these options set (names, logs, signals, requeues) to find its jobs and
to resume them; `--quiet`, `--wait` and similar options hide the answer of sbatch.
"""

_HAVE_KEYS = {
    "account": ("A", "account"),
    "cpus-per-task": ("c", "cpus"),
    "exclude": ("x", "exclude_nodes"),
    "partition": ("p", "partition"),
    "qos": ("q", "qos"),
    "time": ("t", "time_limit"),
}
"""Long names, letters, and the keys of [resources] that set the same, which lvjobs reads and changes."""

_OF_THE_DRIVER = {"dependency": "d"}

_FLAGS = frozenset("hHIkOQsuvVW")
"""Letters that take no value: other letters may follow in the same word."""

_HETEROGENEOUS = frozenset({"hetjob", "packjob"})


_OTHER_CLUSTERS = ("clusters", "cluster-constraint")


def check_options(options: Sequence[str], source: str, keys: Collection[str], *, driver: bool = False) -> None:
    """Refuse options that lvjobs sets itself, in any spelling that sbatch accepts: `-J x`, `--job-n=x`, two entries.

    `source` is the place that has the options, for the message; `keys` are the keys that can be set there instead.
    `driver`: the options are those of the driver's own job.

    Raises:
        UsageError: the message names the option and the remedy.
    """
    have_keys = {name: letter for name, (letter, key) in _HAVE_KEYS.items() if key in keys}
    names = {**_RESERVED, **have_keys, **(_OF_THE_DRIVER if driver else {})}
    for written, name in _found(options, names):
        why, instead = _refusal(name)
        raise UsageError(f"{source}: extra_sbatch has {written!r}, {why}", f"leave it out{instead}")


def _found(options: Sequence[str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each forbidden option as it is written, with its long name; the name is empty where it is no option.

    `names` are the forbidden long names, each with its letter.
    """
    letters = {letter: name for name, letter in names.items() if letter}
    takes_value = False
    for written in options:
        word = re.split(r"[=\s]", written.strip(), maxsplit=1)[0]
        if word in _HETEROGENEOUS or (not word.startswith("-") and not takes_value) or word in ("-", "--"):
            yield written, ""
        elif word.startswith("--"):
            # getopt_long accepts a prefix of a name for the name
            if name := next((name for name in sorted(names) if name.startswith(word[2:])), None):
                yield written, name
        elif word.startswith("-"):
            for letter in word[1:]:
                if letter in letters:
                    yield written, letters[letter]
                if letter not in _FLAGS:
                    break
        takes_value = word.startswith("-") and word == written.strip()


def _refusal(name: str) -> tuple[str, str]:
    """Return why the option of this name (empty: no option) is forbidden, and what to do beside leaving it out."""
    if not name:
        return "which is no option", ", and write one option an entry, such as --constraint=a100"
    if name in _OTHER_CLUSTERS:
        why = "and lvjobs follows jobs only on the cluster whose login node it runs on"
        return why, ", and run lvjobs on a login node of that cluster"
    if name in _HAVE_KEYS:
        return "which has its own key", f", and set {_HAVE_KEYS[name][1]} instead"
    return f"and lvjobs sets --{name} itself, to find its jobs again", ""
